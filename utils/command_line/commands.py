"""The options of the commands `python -m utils.NAME`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from models import MODELS
from sparselearning.averages import PRUNINGS
from sparselearning.errors import UsageError
from sparselearning.methods import METHODS
from utils.command_line.paths import check_owner, check_report, place
from utils.command_line.rows import FROM_0, TO_1, Group, count, derived, is_on, not_negative, option, required
from utils.command_line.sparse_options import AveragingOptions

COMPUTED, NOISE = "computed", "gaussian"  # values of --corruptions and --ood that name no data
READS_DATA = ("evaluate", "greedy", "bn recompute", "data_dir")


@dataclass(frozen=True, kw_only=True)
class TicketFileOptions(Group):
    """tickets: What is taken, and the data and the model that it is of."""

    tickets: tuple[Path, ...] = required("safetensors files", metavar="FILE")
    data: str | None = option(None, "as main_cifar.py takes it (what the tickets say)", metavar="NAME")
    data_dir: str | None = option(None, "read the data here instead of from the Hub", metavar="FOLDER", read=place)
    model: str | None = option(None, "(what the tickets say)", metavar="NAME")
    limit_test: int | None = option(None, "use the first N test images only", metavar="N", fits=count(10**9))
    json: Path | None = option(None, "write the numbers here", metavar="FILE")


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions(Group):
    """robustness and uncertainty: Other images for each ticket and for the ensemble of them all (FreeTickets)."""

    corruptions: str | None = option(None, "accuracy, NLL and ECE on corrupted images, means over corruptions and "
        "severities (cAcc, cNLL, cECE): CIFAR-10-C, CIFAR-100-C or ImageNet-C as published. Without FOLDER they are "
        "computed from the test images by imagecorruptions-imaug, with the strengths of ImageNet-C: on images of 32 "
        "pixels these are much stronger than those of CIFAR-10-C", metavar="FOLDER", read=place,
        alone=COMPUTED)  # fmt: skip
    adversarial: str | None = option(None, "likewise on ImageNet-A, or any images in a folder for some of the classes, "
                                     "of which alone the networks choose (aAcc, aNLL, aECE)", metavar="FOLDER",
                                     read=place)  # fmt: skip
    ood: tuple[str, ...] = option((), "area under the ROC curve by which the confidence tells test images from others: "
                                  f"{NOISE} is noise, NAME a data set as --data takes it, NAME=FOLDER a folder of one, "
                                  "or of images in folders", metavar="NAME[=FOLDER]", read=place)  # fmt: skip
    fgsm: float | None = option(None, "accuracy after a step of this length, in units of 0..1, up the gradient of each "
                                "ticket (8/255): the fast gradient sign method", metavar="EPSILON", fits=TO_1,
                                alone=8 / 255)  # fmt: skip
    per_class: bool = option(False, "how much the tickets disagree on the images of each class")
    workers: int | None = option(None, "processes that load and corrupt images; 0: none (the cores but one, at most 8)",
                                 metavar="N", fits=not_negative(1000))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvaluatedFileOptions(TicketFileOptions):
    """And where its numbers go."""

    image_size: int | None = option(None, "side of the crops of large images (224)", metavar="PIXELS", fits=count(2048))
    summary: Path | None = option(None, "add the numbers to this summary.json of the run that the tickets are of, for "
                                  "utils.report", metavar="FILE")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EvaluatedFileOptions, RobustnessOptions):
    """Those of utils.evaluate."""

    program = "python -m utils.evaluate"

    def checked(self, given: Collection[str]) -> Self:
        check_report("--json", self.json, ".json", *self.tickets, self.summary)
        if self.per_class and len(self.tickets) < 2:
            raise UsageError("--per-class compares tickets: give --tickets two files or more")
        names = [word.partition("=")[0] for word in self.ood]
        if "" in names or len(set(names)) < len(names):
            raise UsageError(f"--ood {' '.join(self.ood)} leaves a set without a name of its own: write NAME=FOLDER")
        return self


@dataclass(frozen=True, kw_only=True)
class SuperpositionOptions(AveragingOptions):
    """What superposing saved tickets needs beside that."""

    sup_tickets = True  # in a run the switch for what is always done here
    density: float | None = option(None, "fraction of maskable weights that is kept (the tickets')", metavar="D",
                                   fits=TO_1)  # fmt: skip
    prune_average: str = derived(
        lambda options: "last" if options.greedy else "every", "back to the density: after every averaging, and the "
        "next goes on from there; or only the last, of the plain mean (every; last with --greedy)",
        choices=PRUNINGS)  # fmt: skip
    greedy: bool = option(False, "only tickets that leave it as accurate on validation images, best first")
    evaluate: bool = option(False, "all on the test images; so does whatever else reads data: --greedy, --bn recompute "
                            "and --data-dir")  # fmt: skip
    limit_train: int | None = option(None, "use the first N training images only (as the tickets did)", metavar="N",
                                     fits=count(10**9), needs=("greedy", "bn recompute"))  # fmt: skip
    valid_fraction: float | None = option(None, "the part of the training images that no ticket was trained on (what "
                                          "the tickets say)", metavar="F", fits=FROM_0, needs=("greedy",))  # fmt: skip
    output: Path = option(Path("superposed.safetensors"), "the file to write", metavar="FILE")
    overwrite: bool = option(False, "replace the file that --output names")


@dataclass(frozen=True, kw_only=True)
class SuperposeOptions(TicketFileOptions, SuperpositionOptions):
    """Those of utils.superpose."""

    program = "python -m utils.superpose"
    limit_test: int | None = option(None, "use the first N test images only", metavar="N", fits=count(10**9),
                                    needs=READS_DATA)  # fmt: skip

    @property
    def reads_data(self) -> bool:
        return any(is_on(self, need) for need in READS_DATA)

    def checked(self, given: Collection[str]) -> Self:
        if len(self.tickets) < 2:
            raise UsageError("one ticket is no superposition: give --tickets two files or more")
        if self.output.resolve() in [path.resolve() for path in self.tickets]:
            raise UsageError(f"--output {self.output} is one of the tickets: give it another name")
        if self.output.exists() and not self.overwrite:
            raise UsageError(f"{self.output} exists: give another --output, or --overwrite to replace it")
        check_owner("--output", self.output, ".safetensors", self.json)
        check_report("--json", self.json, ".json", *self.tickets)
        return self


@dataclass(frozen=True, kw_only=True)
class FileOptions(Group):
    """files: What is packed, and where to."""

    files: tuple[Path, ...] = required("tickets, packed already or not", metavar="FILE", positional=True)
    values: str | None = option(None, "round connections to this number type where theirs is longer; biases and what "
        "belongs to batch norm stay as they are (their own type, bit for bit)",
        choices=("fp32", "bf16", "fp16"))  # fmt: skip
    output: Path | None = option(None, "the packed file (NAME.packed.safetensors beside NAME.safetensors)",
                                 metavar="FILE", idle={"card": "which writes no file"})  # fmt: skip
    overwrite: bool = option(False, "replace packed files that are there; with --push-to-hub, add a commit to a "
                             "repository that is there", idle={"card": "which writes no file"})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HubOptions(Group):
    """Hugging Face Hub: A ticket and its model card as a repository there; nothing is sent without --push-to-hub."""

    push_to_hub: str | None = option(None, "upload the packed ticket and a card made of the files of its run folder; a "
        "file is left here with --output only. It is public, unless --private", metavar="OWNER/NAME")  # fmt: skip
    private: bool = option(False, "make the repository a private one", needs=("push_to_hub",))
    license: str | None = option(None, "of the ticket, by the Hub's identifier: mit, apache-2.0, cc-by-4.0 ... "
        "(unknown)", metavar="ID", needs=("push_to_hub", "card"))  # fmt: skip
    card: bool = option(False, "print the model card and do nothing else")


@dataclass(frozen=True, kw_only=True)
class PackOptions(FileOptions, HubOptions):
    """Those of utils.pack."""

    program = "python -m utils.pack"

    @property
    def sends(self) -> bool:
        """Does anything leave this machine?"""
        return self.push_to_hub is not None and not self.card

    @property
    def outputs(self) -> dict[Path, Path | None]:
        """{ticket: the file to write}; None where there is none, for the card alone or for the Hub."""
        if self.output or self.push_to_hub or self.card:
            return {self.files[0]: self.output}
        suffix = ".safetensors"
        return {file: file.with_name(f"{file.name.removesuffix(suffix)}.packed{suffix}") for file in self.files}

    def checked(self, given: Collection[str]) -> Self:
        alone = next((name for name in ("output", "push_to_hub", "card") if getattr(self, name)), None)
        if alone and len(self.files) > 1:
            raise UsageError(f"--{alone.replace('_', '-')} is for one ticket: give one FILE")
        if self.push_to_hub is not None and [*map(bool, self.push_to_hub.split("/"))] != [True, True]:
            raise UsageError(f"--push-to-hub {self.push_to_hub} is no name of a repository: write OWNER/NAME")
        for file, output in self.outputs.items():
            if output is not None and output.exists() and not self.overwrite:
                raise UsageError(f"{output} exists: give another --output, or --overwrite to replace it")
            if output is not None:
                check_owner("--output", output, ".safetensors", file)
        return self


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Group):
    """table: Which runs are in it, and what is made of it."""

    program = "python -m utils.report"
    runs: tuple[str, ...] = required("run folder, summary.json, or folder above run folders", metavar="RUN",
                                     positional=True)  # fmt: skip
    json: Path | None = option(None, "the table as data", metavar="FILE")
    csv: Path | None = option(None, "the table as data", metavar="FILE")
    latex: Path | None = option(None, "the table as LaTeX, for the package booktabs", metavar="FILE")
    plot: Path | None = option(None, "a picture of it", metavar="FILE")
    paper: str | None = option(
        None, "and beside each number that of the same row of a table of the papers, e.g. sup1 or free6, or of all; "
        "what differs, and what is missing, is said", metavar="TABLE")  # fmt: skip
    significance: bool = option(False, "and a table of Kolmogorov-Smirnov tests: every method with Sup-tickets against "
                                "itself without, of other seeds")  # fmt: skip
    correlation: bool = option(False, "and a table of the correlations, over all settings of an ensemble such as its "
                               "sparsity, of the mean accuracy of its networks with its own")  # fmt: skip
    layers: bool = option(False, "and a table of the sparsity of every layer and stage")
    dense_epochs: int | None = option(None, "length of the dense training that FLOPs are relative to (that of the "
                                      "table, else its longest run)", metavar="N", fits=count(10**9))  # fmt: skip
    counting: Literal["plain", "rigl"] = option("plain", "FLOPs of a weight: 2, or as RigL counts them")

    def checked(self, given: Collection[str]) -> Self:
        check_report("--json", self.json, ".json", self.csv, self.plot)
        check_report("--csv", self.csv, ".csv", self.plot)
        check_report("--latex", self.latex, ".tex", self.json, self.csv, self.plot)
        check_report("--plot", self.plot, self.plot.suffix if self.plot else "")
        return self


ALONE = {"against": "which times float32 and generated images on a CPU"}


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions(Group):
    """benchmarks: What is timed, and how often."""

    program = "python -m utils.benchmark"
    names: tuple[str, ...] = option((), "step, topology, superpose, train, loader, size, inference (all of these), "
                                    "sparse_training or parallel", metavar="NAME", positional=True)  # fmt: skip
    model: str = option("resnet50", "as main_cifar.py takes it", choices=MODELS)
    batch_size: int = option(32, "images per step", metavar="N", fits=count(100_000))
    method: str = option("rigl", "how connections move", choices=METHODS)
    density: float = option(0.1, "part of the weights kept", metavar="D", fits=TO_1)
    densities: tuple[float, ...] = derived(lambda options: (options.density,), "sparse_training: several (--density)",
                                           metavar="D", fits=TO_1)  # fmt: skip
    repetitions: int = option(10, "pairs to take ratios of", metavar="N", fits=count(100_000))
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
