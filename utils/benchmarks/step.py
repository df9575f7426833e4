"""The step of a network in training, and what a masked one costs beside a dense one."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from models import build
from sparselearning import Masking, Superposition, take_ticket
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.command_line.options import CifarOptions
from utils.data.recipes import PAD, SIDE
from utils.data.small_images import SmallImages
from utils.training.build import compile_model

IMAGES, CLASSES = 10_000, 10

Result = dict[str, float]


class Network:
    """A network in training as `utils.training.loop` trains it: channels_last, SGD with momentum, dense or masked.

    Its optimizer steps move no connections. Methods that prune gradually start at their own density.
    """

    def __init__(self, options: BenchmarkOptions, batches: Iterator[tuple[Tensor, Tensor]], sparse: bool) -> None:
        self.batches, self.device, self.bf16 = batches, options.device, options.mixed_precision == "bf16"
        torch.manual_seed(0)  # the same weights in both networks
        self.model = build(options.model, CLASSES).to(options.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            CifarOptions.lr_high,
            CifarOptions.momentum,
            weight_decay=CifarOptions.weight_decay,
            fused=options.device == "cuda",
        )
        if sparse:  # at ERK also for SNIP, which would want data and cost the same
            self.masking = Masking(
                self.model, self.optimizer, options.method, options.density,
                sparse_init="erk", update_frequency=1000, prune_end=1000,
            )  # fmt: skip
            self.masking.begin_phase(0, None, updates=False)
            self.superposition = Superposition(self.masking.masks, self.masking.nnz)
        if options.compile:
            compile_model(self.model, torch.device(self.device), parts=1)

    def backward(self) -> None:
        images, labels = next(self.batches)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            logits = self.model(images)
        F.cross_entropy(logits.float(), labels).backward()

    def step(self) -> None:
        self.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def steps(self) -> float:
        """Milliseconds of a training step; on a GPU the mean of ten, which the host prepares ahead as in training."""
        count = 1 if self.device == "cpu" else 10
        return milliseconds(self.device, *[self.step] * count) / count

    def move(self) -> float:
        """Milliseconds of one topology update by a dense gradient, which then trains what has grown, as in a run."""
        rate, growth = self.masking.prune_rate, self.masking.exploration_growth
        self.backward()
        elapsed = milliseconds(self.device, lambda: self.masking.update_topology(rate, growth))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return elapsed

    def superpose(self) -> float:
        """Milliseconds of averaging one more ticket in, with connections of its own, and pruning the average."""
        self.move()
        ticket = take_ticket(self.model.state_dict(), self.masking.masks)
        return milliseconds(self.device, lambda: self.superposition.add(ticket), self.superposition.ticket)


def step(options: BenchmarkOptions) -> Result:
    """A masked training step on one batch over and over: forward, backward, optimizer and zero_grad."""
    return against_dense(options, Network.steps)


def topology(options: BenchmarkOptions) -> Result:
    """One topology update; the connections move on from update to update."""
    return against_dense(options, Network.move)


def superpose(options: BenchmarkOptions) -> Result:
    """One superposition; the tickets become more from repetition to repetition."""
    return against_dense(options, Network.superpose)


def train(options: BenchmarkOptions) -> Result:
    """Masked training steps on new batches, cropped and flipped as in a run, and both sides' images per second."""
    return images_per_second(against_dense(options, Network.steps, augmented=True), options.batch_size)


def against_dense(options: BenchmarkOptions, work: Callable[[Network], float], augmented: bool = False) -> Result:
    """The work of a masked network and a training step of a dense one in turn; each returns its milliseconds."""
    batches = augmented_batches(options) if augmented else itertools.repeat(next(augmented_batches(options)))
    masked, dense = Network(options, batches, sparse=True), Network(options, batches, sparse=False)
    times = take_turns(options, {"masked": lambda: work(masked), "dense": dense.steps})
    return result(times["masked"] / times["dense"], times["masked"], times["dense"])


def summary(times: Sequence[tuple[float, float]]) -> Result:
    """Of pairs of milliseconds, own and other: the median ratio of a pair and its quartiles, and the median times."""
    own, other = torch.tensor(times, dtype=torch.float64).T
    return result(own / other, own, other)


def result(ratios: Tensor, own: Tensor, other: Tensor) -> Result:
    """The median of the ratios and their quartiles, and the medians of the milliseconds; float64 (n,), each."""
    low, ratio, high = (ratios.quantile(q).item() for q in (0.25, 0.5, 0.75))
    ms, against_ms = own.quantile(0.5).item(), other.quantile(0.5).item()
    return {"ratio": ratio, "low": low, "high": high, "n": len(ratios), "ms": ms, "against_ms": against_ms}


def images_per_second(found: Result, images: int) -> Result:
    """The result, and with it the rates of both sides."""
    rates = {f"{side}images_per_second": 1000 * images / found[f"{side}ms"] for side in ("", "against_")}
    return found | rates


def take_turns(options: BenchmarkOptions, ways: Mapping[str, Callable[[], float]]) -> dict[str, Tensor]:
    """What each of the ways returns, turn by turn without the first ones, which warm up: float64 (repetitions,)."""
    turns = tqdm(range(options.warm_up + options.repetitions), leave=False, disable=None)
    rows = [[way() for way in ways.values()] for _ in turns][options.warm_up :]
    return dict(zip(ways, torch.tensor(rows, dtype=torch.float64).T, strict=True))


def augmented_batches(options: BenchmarkOptions) -> Iterator[tuple[Tensor, Tensor]]:
    """Random bytes in place of a training set; cropped and flipped, as in a run, when a batch is asked for."""
    count, side = max(IMAGES, options.batch_size), SIDE + 2 * PAD
    images = torch.randint(256, (count, side, side, 3), dtype=torch.uint8, device=options.device)
    labels = torch.randint(CLASSES, (count,), device=options.device)
    half = torch.full((3, 1, 1), 0.5, device=options.device)
    order = SmallImages(images, labels, half, half, CLASSES, flip=True, shift=PAD).epoch(seed=0, epoch=0)
    for stop in itertools.cycle(range(options.batch_size, count + 1, options.batch_size)):
        yield order.batch(stop - options.batch_size, stop)


def milliseconds(device: str, *work: Callable[[], object]) -> float:
    """How long the work takes, one piece after the other; on a GPU, until its last kernel is done."""
    if device == "cpu":
        start = time.perf_counter()
        for piece in work:
            piece()
        return 1000 * (time.perf_counter() - start)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for piece in work:
        piece()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)
