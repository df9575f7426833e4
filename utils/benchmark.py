"""What sparse training costs beside a dense training step: on this device, with generated images.

python -m utils.benchmark                                     the first seven NAMEs, ResNet-50 with 32 images per batch
python -m utils.benchmark step topology --json speed.json     some, and their numbers in a file
python -m utils.benchmark sparse_training --model vgg16       with numba: a whole training step on a CPU
python -m utils.benchmark memory --model vgg16                peak memory of dense and sparse training
python -m utils.benchmark parallel --compile                  how many runs side by side train most images
python -m utils.benchmark --against Sup-tickets               the authors' code instead, in a checkout of theirs

All but memory and parallel time two sides in turn, A B A B ..., in one process and take the ratio pair by pair, so that
whatever slows the machine slows both. Reported are the median of the ratios and, as low and high, their quartiles: of
the own time to the other, but for size (times smaller), inference and sparse_training (times as fast).
"""

from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(BenchmarkOptions, __doc__)

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch

from sparselearning import UsageError
from sparselearning.errors import choose
from utils.benchmarks import memory as peaks
from utils.benchmarks import parallel as rates
from utils.benchmarks import released
from utils.benchmarks.inference import inference
from utils.benchmarks.loader import loader
from utils.benchmarks.size import size
from utils.benchmarks.sparse_training import sparse_training
from utils.benchmarks.step import step, superpose, topology, train
from utils.command_line.errors import one_line_errors
from utils.files.whole import write_json
from utils.run_folder.environment import PACKAGES, environment
from utils.training.build import choose_kernels

ALL = step, topology, superpose, train, loader, size, inference
PAIRS = {benchmark.__name__: benchmark for benchmark in (*ALL, sparse_training)}
AGAINST = {name: getattr(released, name) for name in ("step", "topology", "superpose", "loader")}
DENSE = ("contiguous", "channels_last", "torch_compile", "onnx_runtime")  # ways to run a network


def chosen_device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Raises UsageError where it is not there."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise UsageError("--device cuda: torch sees no GPU here, use --device cpu")
    return "cuda" if there and asked != "cpu" else "cpu"


@one_line_errors()
def main(options: BenchmarkOptions) -> None:
    options = replace(options, device=chosen_device("cpu" if options.against else options.device))
    rows = AGAINST if options.against else PAIRS
    every = [*AGAINST] if options.against else [benchmark.__name__ for benchmark in ALL]
    names = options.names if options.names and "all" not in options.names else every
    known = [*rows] if options.against else [*rows, "memory", "parallel"]
    pairs = {name: rows[name] for name in names if choose("the benchmark", name, known) in rows}
    if options.against:
        released.released(options.against)
    choose_kernels(deterministic=False)
    print(f"{options.model}, {options.batch_size} images per step, {options.method} at density {options.density:g}\n")
    results: dict[str, object] = {}
    if pairs:
        print(f"{'':<16}{'ratio':>7}  {'[low,    high]':<16}{'n':>5}{'ms':>11}{'against ms':>11}")
    for name, benchmark in pairs.items():
        r: Mapping[str, object] = benchmark(options)
        results[name] = r
        ratio = f"{name:<16}{r['ratio']:>7.3f}  [{r['low']:>6.3f}, {r['high']:>6.3f}]"
        print(f"{ratio}{r['n']:>5}{r['ms']:>11.1f}{r['against_ms']:>11.1f}", flush=True)
        densities = r.get("densities")
        for density, d in densities.items() if isinstance(densities, dict) else ():
            print(f"{'':<16}density {density}: {d['flops']:.3f} of the dense FLOPs, {d['ms']:.1f} ms; ", end="")
            print(f"times as fast as dense: fp32 {d['fp32']:.2f}, bf16 {d['bf16']:.2f}")
        if "images_per_second" in r:
            own, other = r["images_per_second"], r["against_images_per_second"]
            print(f"{'':<16}{own:.1f} images per second, against {other:.1f}")
        if others := {name: r[name] for name in DENSE if name in r}:
            print(f"{'':<16}times as fast as " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in others.items()))
    if "memory" in names:
        results["memory"] = found = peaks.memory(options)
        print(peaks.table(found))
    if "parallel" in names:
        results["parallel"] = measured = rates.parallel(options)
        print(rates.table(measured))
    if options.json:
        env = environment()
        device = env["device"] if options.device == "cuda" else "cpu"
        versions = {name: env[name] for name in ("python", *PACKAGES)}
        plain = str | int | float | tuple
        settings = {name: value for name, value in vars(options).items() if isinstance(value, plain)}
        results |= {"device": device, "threads": env["threads"], "versions": versions, "settings": settings}
        write_json(options.json, results)


if __name__ == "__main__":
    main(OPTIONS)
