"""What sparse training costs beside a dense training step: on this device, with generated images.

python -m utils.benchmark                                     all, ResNet-50 with 32 images per batch
python -m utils.benchmark step topology --json speed.json     some, and their numbers in a file

Every benchmark times two sides in turn, A B A B ..., in one process and takes the ratio pair by pair, so that whatever
slows the machine slows both. Reported are the median of the ratios and, as low and high, their quartiles.
"""

from utils.command_line.commands import BenchmarkOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(BenchmarkOptions, __doc__)

import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from models import build
from sparselearning import Masking, Superposition, UsageError, take_ticket
from sparselearning.errors import choose
from utils.benchmarks.loader import loader
from utils.benchmarks.size import size
from utils.command_line.errors import one_line_errors
from utils.command_line.options import CifarOptions
from utils.data.recipes import PAD, SIDE
from utils.data.small_images import SmallImages
from utils.files.whole import write_whole
from utils.run_folder.folder import PACKAGES, environment

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
            plan: dict[str, Any] = {"sparse_init": "erk", "update_frequency": 1000, "prune_end": 1000}
            self.masking = Masking(self.model, self.optimizer, options.method, options.density, **plan)
            self.masking.begin_phase(0, None, updates=False)
            self.superposition = Superposition(self.masking.masks, self.masking.nnz)

    def backward(self) -> None:
        images, labels = next(self.batches)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16):
            logits = self.model(images)
        F.cross_entropy(logits.float(), labels).backward()

    def steps(self) -> float:
        """Milliseconds of a training step; on a GPU the mean of ten, which the host prepares ahead as in training."""
        count = 1 if self.device == "cpu" else 10
        pieces = (self.backward, self.optimizer.step, self.optimizer.zero_grad)
        return milliseconds(self.device, *pieces * count) / count

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
    result = against_dense(options, Network.steps, augmented=True)
    rates = {f"{side}images_per_second": 1000 * options.batch_size / result[f"{side}ms"] for side in ("", "against_")}
    return result | rates


BENCHMARKS = {benchmark.__name__: benchmark for benchmark in (step, topology, superpose, train, loader, size)}


def against_dense(options: BenchmarkOptions, work: Callable[[Network], float], augmented: bool = False) -> Result:
    """The work of a masked network and a training step of a dense one in turn; each returns its milliseconds."""
    batches = augmented_batches(options) if augmented else itertools.repeat(next(augmented_batches(options)))
    masked, dense = Network(options, batches, sparse=True), Network(options, batches, sparse=False)
    bar = tqdm(range(options.warm_up + options.repetitions), leave=False, disable=None)
    times = torch.tensor([(work(masked), dense.steps()) for _ in bar][options.warm_up :], dtype=torch.float64)
    low, ratio, high = (torch.quantile(times[:, 0] / times[:, 1], q).item() for q in (0.25, 0.5, 0.75))
    ms, dense_ms = times.quantile(0.5, dim=0).tolist()
    return {"ratio": ratio, "low": low, "high": high, "n": len(times), "ms": ms, "against_ms": dense_ms}


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


def chosen_device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Raises UsageError where it is not there."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UsageError("--device cuda: torch sees no GPU here, use --device cpu")
    return "cuda" if there and asked != "cpu" else "cpu"


@one_line_errors()
def main(options: BenchmarkOptions) -> None:
    options = replace(options, device=chosen_device(options.device))
    names = options.names if options.names and "all" not in options.names else BENCHMARKS
    chosen = {name: choose("the benchmark", name, BENCHMARKS) for name in names}
    torch.set_float32_matmul_precision("high")  # as in training
    torch.backends.cudnn.benchmark = True
    print(f"{options.model}, {options.batch_size} images per step, {options.method} at density {options.density:g}\n")
    print(f"{'':<10}{'ratio':>7}  {'[low,    high]':<16}{'n':>5}{'ms':>11}{'against ms':>11}")
    results: dict[str, Any] = {}
    for name, benchmark in chosen.items():
        r = results[name] = benchmark(options)
        ratio = f"{name:<10}{r['ratio']:>7.3f}  [{r['low']:>6.3f}, {r['high']:>6.3f}]"
        print(f"{ratio}{r['n']:>5}{r['ms']:>11.1f}{r['against_ms']:>11.1f}", flush=True)
        if "images_per_second" in r:
            own, other = r["images_per_second"], r["against_images_per_second"]
            print(f"{'':<10}{own:.1f} images per second, against {other:.1f}")
    if options.json:
        env = environment()
        device = env["device"] if options.device == "cuda" else "cpu"
        versions = {name: env[name] for name in ("python", *PACKAGES)}
        settings = {name: value for name, value in vars(options).items() if isinstance(value, str | int | float | list)}
        results |= {"device": device, "threads": env["threads"], "versions": versions, "settings": settings}
        write_whole(options.json, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(OPTIONS)
