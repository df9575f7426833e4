"""The options of `python -m utils.evaluate`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sparselearning.errors import UsageError
from utils.command_line.commands.tickets import TicketFileOptions
from utils.command_line.paths import check_report, place
from utils.command_line.rows import TO_1, Group, count, not_negative, option

COMPUTED, NOISE = "computed", "gaussian"  # values of --corruptions and --ood that name no data


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
