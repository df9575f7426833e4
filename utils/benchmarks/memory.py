"""How much memory training takes at its peak: whole short runs of main_cifar.py, each in a process of its own.

python -m utils.benchmarks.memory main_cifar.py OPTIONS...     runs it, and ends with a line of its peak in bytes
"""

import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from models import build
from sparselearning import UsageError
from sparselearning.cpu.needs import has_numba
from utils.command_line.commands.benchmark import BenchmarkOptions

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")  # of a process, on Linux
CLASSES = 10
MB = 1e6

# two steps an epoch: in step 3 connections move; the third cycle trains beside the average of two tickets
STEPS, EPOCHS = 2, 5
SPARSE = ("--sparse", "--update-frequency", "3")
CYCLES = ("--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "3")
WAYS: dict[str, tuple[str, ...]] = {"dense": (), "masked": SPARSE, "masked cycles": SPARSE + CYCLES}
KERNELS = {
    "sparse": (*SPARSE, "--sparse-kernels"),
    "sparse cycles": (*SPARSE, *CYCLES, "--sparse-kernels"),
}

Peaks = dict[str, dict[str, float]]


def memory(options: BenchmarkOptions) -> Peaks:
    """The peak of each way to train, in MB of 10⁶ bytes, median and quartiles, and its ratio to the dense run's.

    On a CPU it is that of the resident memory of the whole process, Python and libraries included; on a GPU that of
    torch's tensors there. A run is dense, masked, or masked with cycles of Sup-tickets at its end, all of equally many
    steps on scikit-learn's digits; where numba serves it, also with sparse kernels. `copies` is what the cycles take
    beyond the same training without them, in copies of the weights. The ways take turns; the ratio is that of each
    turn, its median.

    Raises:
        UsageError: a run fails, or the system is not known to count memory.
    """
    if options.device == "cpu" and not STATUS.exists():
        raise UsageError("the benchmark memory reads /proc/self/status on a CPU, which is only there on Linux")
    fast = options.device == "cpu" and options.mixed_precision == "no" and not options.compile and has_numba()
    ways = WAYS | (KERNELS if fast else {})
    with tempfile.TemporaryDirectory() as folder:  # one run after the other overwrites it
        turns = [[run(options, way, folder) for way in ways.values()] for _ in range(options.repetitions)]
    peaks = dict(zip(ways, torch.tensor(turns, dtype=torch.float64).T / MB, strict=True))
    weights = sum(p.numel() * p.element_size() for p in build(options.model, CLASSES).parameters()) / MB
    found: Peaks = {}
    for name, own in peaks.items():
        low, mb, high = own.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
        ratio = (own / peaks["dense"]).quantile(0.5).item()
        found[name] = {"mb": mb, "low": low, "high": high, "n": len(own), "ratio": ratio}
        if name.endswith(" cycles"):
            normal = peaks[name.removesuffix(" cycles")]
            found[name]["copies"] = (own - normal).quantile(0.5).item() / weights
    return found


def run(options: BenchmarkOptions, way: Sequence[str], folder: str) -> int:
    """The peak of one run into the folder, in bytes. Raises UsageError where it fails."""
    sizes = {"batch-size": options.batch_size, "limit-train": STEPS * options.batch_size,
             "limit-test": min(options.batch_size, 360), "epochs": EPOCHS}  # fmt: skip
    words = [word for name, number in sizes.items() for word in (f"--{name}", str(number))]
    words += ["--data", "digits", "--model", options.model, "--mixed-precision", options.mixed_precision, *way]
    if "--sparse" in way:
        words += ["--method", options.method, "--density", str(options.density)]
    if options.compile:
        words.append("--compile")
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
    command = [sys.executable, "-m", __name__, "main_cifar.py", *words, "--output-dir", folder, "--overwrite"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | hidden, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
        raise UsageError(f"a run to measure failed: {said[-1]}")
    return int(done.stdout.split()[-1])


def peak() -> int:
    """Bytes of this process so far. What `getrusage` says would count those of the process that started it too."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def table(peaks: Peaks) -> str:
    """A line for each way to train."""
    lines = [f"{'peak memory':<16}{'ratio':>7}{'MB':>9}  {'[low,    high]':<18}{'n':>3}"]
    for name, p in peaks.items():
        line = f"{name:<16}{p['ratio']:>7.3f}{p['mb']:>9.0f}  [{p['low']:>6.0f}, {p['high']:>6.0f}]{p['n']:>5}"
        copies = f"  {p['copies']:+.2f} copies of the weights" if "copies" in p else ""
        lines.append(line + copies)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    print(peak())
