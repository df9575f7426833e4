"""The options of `python -m utils.benchmark`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from models import MODELS
from sparselearning.methods import METHODS
from utils.command_line.paths import check_report, place
from utils.command_line.rows import TO_1, Group, count, derived, option

ALONE = {"against": "which times float32 and generated images on a CPU"}


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(Group):
    """benchmarks: What is timed, and how often."""

    program = "python -m utils.benchmark"
    names: tuple[str, ...] = option((), "step, topology, superpose, train, loader, size, inference (all of these), "
                                    "sparse_training, memory or parallel", metavar="NAME", positional=True)  # fmt: skip
    model: str = option("resnet50", "as main_cifar.py takes it", choices=MODELS)
    batch_size: int = option(32, "images per step", metavar="N", fits=count(100_000))
    method: str = option("rigl", "how connections move", choices=METHODS)
    density: float = option(0.1, "part of the weights kept", metavar="D", fits=TO_1)
    densities: tuple[float, ...] = derived(lambda options: (options.density,), "sparse_training: several (--density)",
                                           metavar="D", fits=TO_1)  # fmt: skip
    repetitions: int = option(10, "pairs to take ratios of; runs of each kind", metavar="N", fits=count(100_000))
    warm_up: int = option(2, "pairs before, which do not count", metavar="N", fits=count(100_000))
    device: Literal["auto", "cpu", "cuda"] = option("auto", "a GPU where there is one", idle=ALONE)
    mixed_precision: Literal["no", "bf16"] = option("no", "of both sides", idle=ALONE)
    compile: bool = option(False, "as main_cifar.py does; parallel: measure that too", idle=ALONE)
    seconds: int = option(2, "parallel: of each measurement", metavar="S", fits=count(3600))
    data_dir: str | None = option(None, "loader: images to read (generated ones)", metavar="FOLDER", read=place,
                                  idle=ALONE)  # fmt: skip
    data: Literal["cifar", "imagenet"] = option("cifar", "inference: whose network --model is")
    plot: Path | None = option(None, "sparse_training: draw measured time against counted FLOPs", metavar="FILE")
    image_size: int = option(224, "loader: side of a crop; inference of imagenet", metavar="N", fits=count(2048))
    against: Path | None = option(None, "a checkout of github.com/luuyin/Sup-tickets: step (what keeps it sparse), "
        "topology, superpose and loader (of CIFAR) beside the authors' code", metavar="FOLDER")  # fmt: skip
    json: Path | None = option(None, "write the numbers here", metavar="FILE")

    def checked(self, given: Collection[str]) -> Self:
        check_report("--json", self.json, ".json", self.plot)
        check_report("--plot", self.plot, ".png")
        return self
