"""main_imagenet.py on a tiny network, in this process."""

from pathlib import Path
from unittest import mock

import torch

import main_imagenet
from models import classifiers
from tests.scripts import end_of
from tests.tiny import Tiny, no_pictures, restored, signal_at

SUP = ("--sparse", "--method", "granet", "--density", "0.1", "--sup-tickets")


def main(folder: Path, *options: str, stop: int | None = None) -> tuple[int, str, str]:
    """Run main_imagenet.py on the images of a folder; returns its exit status and what it wrote on stdout and stderr.

    Args:
        stop: the optimizer step after which it gets SIGTERM.
    """
    common = ("--data-dir", str(folder), "--image-size", "32", "--batch-size", "16")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            restored(),
            mock.patch.object(classifiers, "build", lambda name, classes, *_: Tiny(classes)),
            no_pictures(),
            signal_at(stop),
        ):
            return end_of(main_imagenet, *common, *options)
    finally:
        torch.set_num_threads(threads)
