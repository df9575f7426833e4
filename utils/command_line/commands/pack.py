"""The options of `python -m utils.pack`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sparselearning.errors import UsageError
from utils.command_line.paths import check_owner
from utils.command_line.rows import Group, option, required


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
