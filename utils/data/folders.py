"""What a local folder holds: the files of each split."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from sparselearning.errors import UsageError

TRAIN = ("train",)
HELD_OUT = ("val", "validation", "valid")
SPLITS = (*TRAIN, *HELD_OUT, "test")


def existing(data_dir: str, remedy: str = "give --data-dir the folder with the data, such as train/ and test/") -> Path:
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: {remedy}")
    return folder


def parquet_files(folder: Path) -> dict[str, list[str]]:
    """The parquet files of each split, in their order."""
    shards: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        if split := _split_of(file.relative_to(folder)):
            check_file(file)
            shards.setdefault(split, []).append(str(file))
    for split, names in shards.items():
        if (total := re.search(r"-of-(\d+)\.parquet$", names[0])) and int(total[1]) != len(names):
            raise UsageError(f"{folder} has {len(names)} of {int(total[1])} {split} files: copy the others too")
    return shards


def _split_of(path: Path) -> str | None:
    """The split that a path names: train-00000-of-00003.parquet, cifar10-test.parquet, validation/0000.parquet."""
    words = [re.findall("[a-z]+", part.lower()) for part in reversed(path.parts)]
    return next((split for part in words for split in SPLITS if split in part), None)


def split_named(names: Sequence[str], splits: Collection[str], where: str) -> str:
    """The first of `names` that is there."""
    split = next((name for name in names if name in splits), None)
    if split is None:
        raise UsageError(f"{where} has no split {' or '.join(names)}, but {', '.join(splits) or 'nothing'}: add one")
    return split


def check_file(path: Path) -> None:
    """Raises UsageError for a pipe or a device, which a reader could wait for without end, and for a broken link."""
    if not path.is_file():
        raise UsageError(f"{path} is no file that can be read: copy it again, or remove it")
