"""This code beside the authors' released one, luuyin/Sup-tickets, on a CPU: `--against` a checkout of it.

Their modules are imported from the checkout as they are; what asks for a GPU there does nothing meanwhile. Both sides
work on the same network, weights, connections and gradients, in turns. Of what stands inside their `main` alone, the
pruning of an average and the files of tickets, the first is timed as `Masking.pruning`, which does the same, and the
second not at all.
"""

import contextlib
import copy
import functools
import io
import itertools
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.backends import cudnn
from torch.utils.data import default_collate

from sparselearning import UsageError, take_ticket
from utils.benchmarks.step import IMAGES, Network, Result, augmented_batches, milliseconds, summary
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.data.recipes import SIDE

ROOT = Path(__file__).parents[2]
SHADOWED = ("models", "sparselearning", "main_suptickets")  # names of packages there, some of which are ours too
PARTS = {"main_suptickets": "CAA_average", "sparselearning.core": "Masking",
         "sparselearning.utils": "get_cifar10_dataloaders"}  # fmt: skip


@contextlib.contextmanager
def their_modules(folder: Path) -> Iterator[None]:
    """Imports find theirs, which have the names of ours, and their program makes its folders elsewhere."""
    own = {name: module for name, module in sys.modules.items() if name.split(".")[0] in SHADOWED}
    elsewhere, here = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT], os.getcwd()
    kernels = cudnn.benchmark, cudnn.deterministic  # which their program sets
    for name in own:
        del sys.modules[name]
    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.object(sys, "path", [str(folder), *elsewhere]),
    ):
        os.chdir(scratch)
        try:
            yield
        finally:
            os.chdir(here)
            cudnn.benchmark, cudnn.deterministic = kernels
            for name in [name for name in sys.modules if name.split(".")[0] in SHADOWED]:
                del sys.modules[name]
            sys.modules.update(own)


@functools.cache
def released(checkout: Path) -> tuple[ModuleType, ModuleType, ModuleType]:
    """Their main program, masks and data for CIFAR.

    Raises:
        UsageError: the folder holds something else.
    """
    folder, remedy = (checkout / "CIFAR").resolve(), "give a checkout of github.com/luuyin/Sup-tickets"
    for file in (f"{name.replace('.', '/')}.py" for name in PARTS):
        if not (folder / file).is_file():
            raise UsageError(f"--against {checkout} has no CIFAR/{file}: {remedy}")
    with their_modules(folder), on_the_cpu():
        try:
            program, masks, data = (import_module(name) for name in PARTS)
            for module, part in zip((program, masks, data), PARTS.values(), strict=True):
                getattr(module, part)
        except Exception as error:
            raise UsageError(f"--against {checkout} cannot be imported: {error}; {remedy}") from error
    return program, masks, data


@contextlib.contextmanager
def on_the_cpu() -> Iterator[None]:
    """What asks for a GPU stays where it is, and nothing is printed."""

    def same(thing: object, *_: object, **__: object) -> object:
        return thing

    with (
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(action="ignore"),
        mock.patch.object(Tensor, "cuda", same),
        mock.patch.object(nn.Module, "cuda", same),
    ):
        yield


class Pair:
    """Our network in training, and theirs."""

    def __init__(self, options: BenchmarkOptions) -> None:
        assert options.against is not None
        self.program, masks, _ = released(options.against)
        self.own = Network(options, itertools.repeat(next(augmented_batches(options))), sparse=True)
        self.model = copy.deepcopy(self.own.model).to(memory_format=torch.contiguous_format)  # they know no other
        rate = self.own.masking.prune_rate
        group = self.own.optimizer.param_groups[0]
        own = {name: group[name] for name in ("lr", "momentum", "weight_decay")}
        arguments = SimpleNamespace(  # an update when it is called for
            method="DST", sparse_init="ERK", fix=False, rm_first=False, update_frequency=10**9, multiplier=1,
            decay_schedule="constant", prune_rate=rate, init_density=options.density, final_density=options.density,
            init_prune_epoch=0, final_prune_epoch=2,
        )  # fmt: skip
        self.masking = masks.Masking(
            torch.optim.SGD(self.model.parameters(), **own), prune_rate=rate, growth_mode="gradient",
            redistribution_mode="none", prune_rate_decay=masks.CosineDecay(rate, 10**9), args=arguments,
            train_loader=range(1),
        )  # fmt: skip
        with on_the_cpu():
            self.masking.add_module(self.model, sparse_init="ERK")
        self.own.step()  # so that there is a momentum

    def backward(self) -> None:
        """New gradients, and all that our network holds in theirs."""
        self.own.optimizer.zero_grad()
        self.own.backward()
        for (name, weight), own in zip(self.model.named_parameters(), self.own.model.parameters(), strict=True):
            assert own.grad is not None
            weight.data, weight.grad = copied(own.data), copied(own.grad)
            momentum = self.own.optimizer.state[own]["momentum_buffer"]
            self.masking.optimizer.state[weight]["momentum_buffer"] = copied(momentum)
            if name in self.masking.masks:
                self.masking.masks[name] = copied(self.own.masking.masks[name]).float()


def copied(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def step(options: BenchmarkOptions) -> Result:
    """An optimizer step that keeps the network sparse, after its gradients are there."""
    pair = Pair(options)

    def times() -> tuple[float, float]:
        pair.backward()
        return milliseconds("cpu", pair.own.optimizer.step), milliseconds("cpu", pair.masking.step)

    return in_turns(options, times)


def topology(options: BenchmarkOptions) -> Result:
    """A topology update by the same gradient."""
    pair = Pair(options)
    masking = pair.own.masking

    def times() -> tuple[float, float]:
        pair.backward()
        own = milliseconds("cpu", lambda: masking.update_topology(masking.prune_rate, "gradient"))
        theirs = milliseconds("cpu", pair.masking.truncate_weights)
        pair.own.optimizer.step()
        return own, theirs

    return in_turns(options, times)


def superpose(options: BenchmarkOptions) -> Result:
    """Averaging one more ticket in, with connections of its own, and pruning the average over all layers."""
    pair = Pair(options)
    average, previous = copy.deepcopy(pair.model), pair.model
    pair.masking.modules, pair.masking.prune_every_k_steps = [average], 1
    tickets = itertools.count(2)

    def superposed(current: nn.Module, factor: float) -> None:
        state, _ = pair.program.CAA_average([previous, current], range(2), factor)
        pair.program.set_model_params(average, state)
        pair.masking.pruning(1)

    def times() -> tuple[float, float]:
        pair.own.move()
        ticket = take_ticket(pair.own.model.state_dict(), pair.own.masking.masks)
        superposition = pair.own.superposition
        own = milliseconds("cpu", lambda: superposition.add(ticket), superposition.ticket)
        factor = 1 / next(tickets)
        theirs = milliseconds("cpu", lambda: superposed(pair.own.model, factor))
        previous.load_state_dict(average.state_dict())
        return own, theirs

    return in_turns(options, times)


class Generated:
    """In the place of torchvision's CIFAR-10: noise."""

    def __init__(self, root: str, train: bool, transform: Callable[[Image.Image], Tensor], download: bool) -> None:
        self.transform, self.images = transform, torch.randint(256, (IMAGES, SIDE, SIDE, 3), dtype=torch.uint8).numpy()

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 10


def loader(options: BenchmarkOptions) -> Result:
    """A batch of CIFAR-10, cropped, flipped and normalized, in time of one processor: no process waits for another."""
    assert options.against is not None
    _, _, data = released(options.against)
    sizes = SimpleNamespace(batch_size=options.batch_size, test_batch_size=options.batch_size)
    with mock.patch.object(torchvision.datasets, "CIFAR10", Generated), on_the_cpu():
        images = data.get_cifar10_dataloaders(sizes, 0.1, max_threads=2)[0].dataset
    batches, threads = augmented_batches(options), torch.get_num_threads()
    rows = itertools.cycle(range(len(images)))

    def processor(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return 1000 * (time.process_time() - start)

    def theirs() -> object:
        return default_collate([images[row] for row in itertools.islice(rows, options.batch_size)])

    torch.set_num_threads(1)
    try:
        return in_turns(options, lambda: (processor(lambda: next(batches)), processor(theirs)))
    finally:
        torch.set_num_threads(threads)


def in_turns(options: BenchmarkOptions, times: Callable[[], tuple[float, float]]) -> Result:
    """Of ours to theirs."""
    with on_the_cpu():
        return summary([times() for _ in range(options.warm_up + options.repetitions)][options.warm_up :])
