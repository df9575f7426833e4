"""The options of `python -m utils.export`."""

import argparse
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from sparselearning.errors import UsageError
from sparselearning.hub import PREFIX
from utils.command_line.paths import check_report, place
from utils.command_line.rows import Group, count, option, required


def batch(text: str) -> int | None:
    """The value of an option: a number of images, None for any."""
    if text != "dynamic" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no number of images: give one, or dynamic")
    return None if text == "dynamic" else int(text)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Group):
    """network: Which is written, and in which form."""

    program = "python -m utils.export"
    ticket: str = required("a ticket, packed or not, or hf://OWNER/NAME", metavar="FILE", read=place)
    to: Literal["onnx", "pt2"] = option("onnx", "for ONNX Runtime and others, or for torch.export.load")
    output: Path | None = option(None, "(NAME.onnx or NAME.pt2 beside the ticket, here for one of the Hub)",
                                 metavar="FILE")  # fmt: skip
    batch_size: int | None = option(None, "images at a time: this number only, or dynamic, any number (dynamic)",
                                    metavar="N", read=batch, fits=count(100_000))  # fmt: skip
    data: str | None = option(None, "the data that its images are normalized as (what the ticket says)", metavar="NAME")
    model: str | None = option(None, "(what the ticket says)", metavar="NAME")
    image_size: int | None = option(None, "side of the images (what the ticket says; 224 of ImageNet)",
                                    metavar="PIXELS", fits=count(2048))  # fmt: skip
    overwrite: bool = option(False, "replace the file that is there")

    @property
    def target(self) -> Path:
        """The file to write."""
        if self.output is not None:
            return self.output
        hub = self.ticket.startswith(PREFIX)
        own = Path(self.ticket.split("@")[0].split("/")[-1]) if hub else Path(self.ticket)
        return own.with_name(f"{own.name.removesuffix('.safetensors').removesuffix('.packed')}.{self.to}")

    def checked(self, given: Collection[str]) -> Self:
        if self.target.exists() and not self.overwrite:
            raise UsageError(f"{self.target} exists: give another --output, or --overwrite to replace it")
        check_report("--output", self.target, f".{self.to}", Path(self.ticket))
        return self
