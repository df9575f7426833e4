"""The run folder: its name, who may write into it, and the files that others rely on."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from sparselearning.errors import UsageError
from utils.arguments import effective
from utils.checkpoints import FREE
from utils.files import read_json
from utils.options import SWITCHES

PACKAGES = ("torch", "torchvision", "accelerate", "datasets", "safetensors", "numpy")
OWN = ("args.yaml", "env.json", "metrics.csv", "summary.json", "ticket.safetensors", "tensorboard", "checkpoints",
       "tickets", "superpositions", "early.safetensors", "learning_curve.png", "sparsity_per_layer.png")  # fmt: skip


def default_name(args: argparse.Namespace) -> str:
    """What `ls runs` shows, e.g. cifar10-vgg16-granet-d0.05-sup-seed0."""
    data = (
        Path(args.data_dir).name if args.data not in ("digits", "cifar10", "cifar100") and args.data_dir else args.data
    )
    parts = [data.replace("/", "-"), args.model]
    parts += [args.method, f"d{args.density:g}"] if args.sparse else ["dense"]
    parts += [name for switch, name in (("rewind", "ltr"), ("distill", "distilled")) if getattr(args, switch)]
    parts += [switch.removesuffix("_tickets") for switch in SWITCHES if getattr(args, switch)]
    parts += [f"ensemble{args.ensemble}"] if args.ensemble else []
    return "-".join([*parts, f"seed{args.seed}"])


class RunFolder:
    """The folder of one run, or of the runs of an ensemble.

    Attributes:
        args: the options of the run.
        path: `--output-dir`, or runs/ and a name that says what is run.
        finished: does it hold a finished run?
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.path = Path(args.output_dir or Path("runs") / default_name(args))
        self.finished = (self.path / "summary.json").exists()

    def members(self) -> list["RunFolder"]:
        """The folder itself, or with --ensemble those of its runs; ensembles of two seeds share no seed of a run."""
        count = self.args.ensemble
        if not count:
            return [self]
        places = [(count * self.args.seed + j, str(self.path / f"member-{j + 1}")) for j in range(count)]
        options = [{"seed": seed, "output_dir": place, "ensemble": None} for seed, place in places]
        return [RunFolder(argparse.Namespace(**{**vars(self.args), **changes})) for changes in options]

    def check(self) -> None:
        """Raises UsageError where the folder holds another run, and no option says what is to become of it."""
        args = self.args
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file: give another --output-dir")
        if args.resume and self.finished:
            self._check_same()
        if args.overwrite or args.resume or not any((self.path / name).exists() for name in OWN):
            return
        if self.finished:
            raise UsageError(f"{self.path} holds a finished run: give another --output-dir, or --overwrite it")
        raise UsageError(
            f"{self.path} holds an unfinished run: --resume auto goes on with it, --overwrite replaces it, or give "
            f"another --output-dir"
        )

    def _check_same(self) -> None:
        """Raises UsageError where the finished run is not the one that the options ask for."""
        try:
            saved = yaml.safe_load((self.path / "args.yaml").read_text())
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UsageError(f"{self.path / 'args.yaml'} cannot be read: give another --output-dir") from error
        asked = effective(self.args)
        for name in sorted({*asked, *saved} - FREE):
            if asked.get(name, False) != saved.get(name, False):  # a switch that was not there yet was off
                raise UsageError(
                    f"{self.path} holds a finished run with {name} {saved.get(name)}, not {asked.get(name)}: give "
                    f"another --output-dir"
                )

    def claim(self) -> None:
        """Make the folder, clear what --overwrite replaces, and record what is run and where."""
        args = self.args
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if args.overwrite and not args.resume:
                for name in OWN:
                    target = self.path / name
                    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            (self.path / "args.yaml").write_text(yaml.safe_dump(effective(args)))
            (self.path / "env.json").write_text(json.dumps(environment(), indent=2) + "\n")
        except OSError as error:
            raise UsageError(f"cannot write into {self.path}: {error.strerror}; give another --output-dir") from error


BROKEN = (KeyError, TypeError, ValueError, AttributeError, OSError, yaml.YAMLError)  # what a damaged run folder raises


def broken(error: Exception) -> str:
    """What is wrong with it, in a line."""
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())


def read_run(summary: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary.json of a finished run, and the options beside it; none where the summary alone was kept."""
    options = summary.with_name("args.yaml")
    return read_json(summary), (yaml.safe_load(options.read_text()) or {}) if options.is_file() else {}


def environment() -> dict[str, Any]:
    """Versions, device and command: what a reader needs to make sense of the numbers."""
    cuda = torch.cuda.is_available()
    return {
        "command": " ".join(sys.argv),
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "devices": torch.cuda.device_count() if cuda else 1,
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
