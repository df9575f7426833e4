"""Where and with what a run is made: env.json."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from utils.run_folder.contents import Environment

PACKAGES = ("torch", "torchvision", "accelerate", "datasets", "safetensors", "numpy")


def environment() -> Environment:
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
