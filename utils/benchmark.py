"""What sparse training costs beside a dense training step: on this device, with generated images.

python -m utils.benchmark                                     all, ResNet-50 with 32 images per batch
python -m utils.benchmark step topology --json speed.json     some, and their numbers in a file

Every benchmark times two sides in turn, A B A B ..., in one process and takes the ratio pair by pair, so that whatever
slows the machine slows both. Reported are the median of the ratios and, as low and high, their quartiles.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from utils.command_line.program import start

    start()

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from models import MODELS, build
from sparselearning import METHODS, Masking, Superposition, take_ticket
from utils.benchmarks.loader import loader
from utils.command_line.errors import one_line_errors
from utils.command_line.options import CifarOptions
from utils.command_line.parser import Help, Parser
from utils.command_line.paths import check_report, file_path, place
from utils.data.recipes import PAD, SIDE
from utils.data.small_images import SmallImages
from utils.files.whole import write_whole
from utils.run_folder.folder import PACKAGES, environment

IMAGES, CLASSES = 10_000, 10
MOST = 100_000  # of anything

Result = dict[str, float]


class Network:
    """A network in training as `utils.training.loop` trains it: channels_last, SGD with momentum, dense or masked.

    Its optimizer steps move no connections. Methods that prune gradually start at their own density.
    """

    def __init__(self, args: argparse.Namespace, batches: Iterator[tuple[Tensor, Tensor]], sparse: bool) -> None:
        self.batches, self.device, self.bf16 = batches, args.device, args.mixed_precision == "bf16"
        torch.manual_seed(0)  # the same weights in both networks
        self.model = build(args.model, CLASSES).to(args.device).to(memory_format=torch.channels_last)
        sgd = {"fused": args.device.type == "cuda", "weight_decay": CifarOptions.weight_decay}
        self.optimizer = torch.optim.SGD(self.model.parameters(), CifarOptions.lr_high, CifarOptions.momentum, **sgd)
        if sparse:  # at ERK also for SNIP, which would want data and cost the same
            plan: dict[str, Any] = {"sparse_init": "erk", "update_frequency": 1000, "prune_end": 1000}
            self.masking = Masking(self.model, self.optimizer, args.method, args.density, **plan)
            self.masking.begin_phase(0, None, updates=False)
            self.superposition = Superposition(self.masking.masks, self.masking.nnz)

    def backward(self) -> None:
        images, labels = next(self.batches)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.model(images)
        F.cross_entropy(logits.float(), labels).backward()

    def steps(self) -> float:
        """Milliseconds of a training step; on a GPU the mean of ten, which the host prepares ahead as in training."""
        count = 1 if self.device.type == "cpu" else 10
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


def step(args: argparse.Namespace) -> Result:
    """A masked training step on one batch over and over: forward, backward, optimizer and zero_grad."""
    return against_dense(args, Network.steps)


def topology(args: argparse.Namespace) -> Result:
    """One topology update; the connections move on from update to update."""
    return against_dense(args, Network.move)


def superpose(args: argparse.Namespace) -> Result:
    """One superposition; the tickets become more from repetition to repetition."""
    return against_dense(args, Network.superpose)


def train(args: argparse.Namespace) -> Result:
    """Masked training steps on new batches, cropped and flipped as in a run, and both sides' images per second."""
    result = against_dense(args, Network.steps, augmented=True)
    rates = {f"{side}images_per_second": 1000 * args.batch_size / result[f"{side}ms"] for side in ("", "against_")}
    return result | rates


BENCHMARKS = {benchmark.__name__: benchmark for benchmark in (step, topology, superpose, train, loader)}


def against_dense(args: argparse.Namespace, work: Callable[[Network], float], augmented: bool = False) -> Result:
    """The work of a masked network and a training step of a dense one in turn; each returns its milliseconds."""
    batches = augmented_batches(args) if augmented else itertools.repeat(next(augmented_batches(args)))
    masked, dense = Network(args, batches, sparse=True), Network(args, batches, sparse=False)
    bar = tqdm(range(args.warm_up + args.repetitions), leave=False, disable=None)
    times = torch.tensor([(work(masked), dense.steps()) for _ in bar][args.warm_up :], dtype=torch.float64)
    low, ratio, high = (torch.quantile(times[:, 0] / times[:, 1], q).item() for q in (0.25, 0.5, 0.75))
    ms, dense_ms = times.quantile(0.5, dim=0).tolist()
    return {"ratio": ratio, "low": low, "high": high, "n": len(times), "ms": ms, "against_ms": dense_ms}


def augmented_batches(args: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Random bytes in place of a training set; cropped and flipped, as in a run, when a batch is asked for."""
    count, side = max(IMAGES, args.batch_size), SIDE + 2 * PAD
    images = torch.randint(256, (count, side, side, 3), dtype=torch.uint8, device=args.device)
    labels = torch.randint(CLASSES, (count,), device=args.device)
    half = torch.full((3, 1, 1), 0.5, device=args.device)
    order = SmallImages(images, labels, half, half, CLASSES, flip=True, shift=PAD).epoch(seed=0, epoch=0)
    for stop in itertools.cycle(range(args.batch_size, count + 1, args.batch_size)):
        yield order.batch(stop - args.batch_size, stop)


def milliseconds(device: torch.device, *work: Callable[[], object]) -> float:
    """How long the work takes, one piece after the other; on a GPU, until its last kernel is done."""
    if device.type == "cpu":
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


def positive(text: str) -> int:
    if text.isdecimal() and 0 < int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text:.60} is not a positive whole number of at most {MOST:,}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("python -m utils.benchmark", description=(__doc__ or "").split("\n")[0], formatter_class=Help)
    parser.add_argument("names", nargs="*", default="all", choices=[*BENCHMARKS, "all"], help="(all)")
    parser.add_argument("--model", default="resnet50", choices=MODELS, help="(resnet50)")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images per step (32)")
    parser.add_argument("--method", default="rigl", choices=METHODS, help="how connections move (rigl)")
    parser.add_argument("--density", type=float, default=0.1, metavar="D", help="part of the weights kept (0.1)")
    parser.add_argument("--repetitions", type=positive, default=10, metavar="N", help="pairs to take ratios of (10)")
    parser.add_argument("--warm-up", type=positive, default=2, metavar="N", help="pairs before, which do not count (2)")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="(a GPU where there is one)")
    parser.add_argument("--mixed-precision", default="no", choices=["no", "bf16"], help="(no)")
    parser.add_argument("--data-dir", type=place, metavar="FOLDER", help="loader: images to read (generated ones)")
    parser.add_argument("--image-size", type=positive, default=224, metavar="N", help="loader: side of a crop (224)")
    parser.add_argument("--json", type=file_path, metavar="FILE", help="write the numbers here")
    args, default = parser.parse_args(argv), "cuda" if torch.cuda.is_available() else "cpu"
    if args.device == "cuda" != default:
        parser.error("--device cuda: torch sees no GPU here, use --device cpu")
    if not 0 < args.density <= 1:
        parser.error(f"--density {args.density:g} is not in (0, 1]")
    args.device = torch.device(default if args.device == "auto" else args.device)
    check_report("--json", args.json, ".json")
    return args


@one_line_errors()
def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    torch.set_float32_matmul_precision("high")  # as in training
    torch.backends.cudnn.benchmark = True
    print(f"{args.model}, {args.batch_size} images per step, {args.method} at density {args.density:g}\n")
    print(f"{'':<10}{'ratio':>7}  {'[low,    high]':<16}{'n':>5}{'ms':>11}{'against ms':>11}")
    results: dict[str, Any] = {}
    for name in BENCHMARKS if "all" in args.names else dict.fromkeys(args.names):
        r = results[name] = BENCHMARKS[name](args)
        ratio = f"{name:<10}{r['ratio']:>7.3f}  [{r['low']:>6.3f}, {r['high']:>6.3f}]"
        print(f"{ratio}{r['n']:>5}{r['ms']:>11.1f}{r['against_ms']:>11.1f}", flush=True)
        if "images_per_second" in r:
            own, other = r["images_per_second"], r["against_images_per_second"]
            print(f"{'':<10}{own:.1f} images per second, against {other:.1f}")
    if args.json:
        env = environment()
        device = env["device"] if args.device.type == "cuda" else "cpu"
        versions = {name: env[name] for name in ("python", *PACKAGES)}
        settings = {name: value for name, value in vars(args).items() if isinstance(value, str | int | float | list)}
        results |= {"device": device, "threads": env["threads"], "versions": versions, "settings": settings}
        write_whole(args.json, json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
