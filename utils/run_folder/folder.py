"""The run folder: its name, who may write into it, and the files that others rely on."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import yaml
from accelerate import Accelerator

from sparselearning.errors import UsageError
from utils.command_line.options import NAMES, REGIMES, Options, effective
from utils.command_line.paths import EVENTS, FILES, FOLDERS
from utils.command_line.rows import Setting
from utils.files.locks import hold
from utils.files.whole import write_json, write_whole
from utils.run_folder.environment import environment
from utils.run_folder.finished import read_options
from utils.run_folder.identity import deciding, difference


def default_name(options: Options) -> str:
    """What `ls runs` shows, e.g. cifar10-vgg16-granet-d0.05-sup-seed0."""
    parts = [options.data.replace("/", "-"), options.model]
    parts += [options.method, f"d{options.density:g}"] if options.sparse else ["dense"]
    parts += [name for switch, name in (("rewind", "ltr"), ("distill", "distilled")) if getattr(options, switch)]
    parts += [switch.removesuffix("_tickets") for switch in REGIMES if getattr(options, switch)]
    if options.start_from:
        parts.append(f"continue{n}" if (n := options.continue_epochs) else f"{options.tickets}x{options.cycle_epochs}")
    parts += [f"{options.efficient_ensemble}{options.members}"] if options.efficient_ensemble else []
    parts += [f"ensemble{options.ensemble}"] if options.ensemble else []
    return "-".join([*parts, f"seed{options.seed}"])


class RunFolder:
    """The folder of one run, or of the runs of an ensemble.

    Attributes:
        options: of the run.
        path: `--output-dir`, or runs/ and a name that says what is run.
        whole: the folder of the ensemble that the run is one of.
    """

    def __init__(self, options: Options, whole: "RunFolder | None" = None) -> None:
        self.options, self.whole = options, whole
        self.path = Path(options.output_dir or Path("runs") / default_name(options))

    @property
    def finished(self) -> bool:
        """Does it hold a finished run?"""
        return (self.path / "summary.json").exists()

    def members(self) -> list["RunFolder"]:
        """The folder itself, or with --ensemble those of its runs; ensembles of two seeds share no seed of a run."""
        count = self.options.ensemble
        if not count:
            return [self]
        places = [(count * self.options.seed + j, str(self.path / f"member-{j + 1}")) for j in range(count)]
        own = [replace(self.options, seed=seed, output_dir=place, ensemble=None) for seed, place in places]
        return [RunFolder(options, whole=self) for options in own]

    def unfinished(self) -> Iterator["RunFolder"]:
        """Those of `members` that are still to be trained: with --resume not what is finished already."""
        return (member for member in self.members() if not (member.finished and member.options.resume))

    def check(self) -> None:
        """Raises UsageError where the folder holds another run, or anything else, that the options do not replace.

        A run that is not finished may be in progress in another process, so its folder is held from here on.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file: give another --output-dir")
        if not any(os.path.lexists(self.path / name) for name in (*FILES, *FOLDERS)):
            return
        saved = self._saved()
        if not self.finished:
            hold(self.path)
        if self.options.resume:
            saved, asked = (deciding(own, parts=False) for own in (saved, effective(self.options)))
            if other := difference(saved, asked):
                raise UsageError(f"{self.path} holds a run with {other}: give another --output-dir")
        elif not self.options.overwrite:
            kind = "a finished run: " if self.finished else "an unfinished run: --resume auto goes on with it, or "
            raise UsageError(f"{self.path} holds {kind}give another --output-dir, or --overwrite it")

    def _saved(self) -> dict[str, Setting]:
        """The options of the run that the folder holds. Raises UsageError where it holds something else."""
        for name, kind in (*((name, "file") for name in FILES), *((name, "folder") for name in FOLDERS)):
            place = self.path / name
            if os.path.lexists(place) and not (place.is_file() if kind == "file" else place.is_dir()):
                raise UsageError(f"{place} is no {kind}, as a run has it: move it away, or give another --output-dir")
        try:
            saved = read_options(self.path)
        except UsageError as error:
            raise UsageError(f"{error}: move it away, or give another --output-dir") from error
        if not saved or not saved.keys() <= NAMES:
            raise UsageError(
                f"{self.path} holds files that are named like those of a run, but no args.yaml that says of which, and "
                f"--overwrite replaces runs alone: move them away, or give another --output-dir"
            )
        return saved

    def claim(self) -> None:
        """Make the folder this run's own: clear what --overwrite replaces, and record what is run and where.

        That of an ensemble too: it is none that is finished, from here on.
        """
        options = self.options
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if hold(self.path):
                self.check()  # nobody else was faster
            if options.overwrite and not options.resume:
                self._clear()
            write_whole(self.path / "args.yaml", yaml.safe_dump(effective(options)))
            write_json(self.path / "env.json", environment())
        except OSError as error:
            reason = error.strerror or error
            raise UsageError(f"cannot write into {self.path}: {reason}; give another --output-dir") from error
        if self.whole is not None:
            self.whole.claim()

    def _clear(self) -> None:
        """Remove the run that the folder holds, and of an ensemble those that the new one does not have."""
        kept = [member.path for member in self.members()]
        strays = [path for path in self.path.glob("member-*") if path not in kept and read_options(path)]
        own = [self.path / name for name in (*FILES[:-1], *FOLDERS)]  # args.yaml is replaced
        for place in [*own, *self.path.glob(EVENTS), *strays]:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)


def open_folder(options: Options, accelerator: Accelerator) -> RunFolder:
    """The run folder; ends the program where --resume finds that nothing is left to do.

    Raises:
        UsageError: it holds another run.
    """
    folder = RunFolder(options)
    if accelerator.is_main_process and not options.dry_run:
        for run in (folder, *folder.members()):
            run.check()
    if options.resume and folder.finished:
        accelerator.print(f"{folder.path} holds this run, finished: nothing to resume")
        sys.exit(0)
    return folder
