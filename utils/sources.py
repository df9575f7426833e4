"""Where images come from: the Hub, scikit-learn, or a local folder in any of the forms people keep CIFAR in.

Every form becomes the same thing, a `Source` per split: cells that still have to be decoded, and their labels.
Whatever is wrong with a source is raised here or in `Source.decode`, as one line that names the file or the row.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import huggingface_hub.utils as hub
import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.datasets import CIFAR10, CIFAR100, ImageFolder
from tqdm import tqdm

from sparselearning.errors import UsageError

SIDE = 32  # every image is SIDE × SIDE pixels
SPLITS = ("train", "test")
NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "digits": 10}
DIGITS_TEST = 360  # images held out of the 1797

Cell = np.ndarray | bytes | str | None  # pixels, an encoded image, the path of one, or a hole in the table


@dataclass(frozen=True)
class Source:
    """One split before decoding. `where` names it in messages; `num_classes` is None where the form does not tell."""

    where: str
    images: Sequence[Cell]
    labels: Sequence[int | None]
    num_classes: int | None = None

    def decode(self, limit: int | None, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `limit` samples (all, if None): pixels, uint8 (N, 32, 32, 3), and labels, int64 (N,), on the CPU.

        Raises UsageError for a limit outside 1..N, labels that do not fit `classes`, and damaged or odd-sized images.
        """
        if limit is not None and not 1 <= limit <= len(self.images):
            raise UsageError(f"cannot take the first {limit} of {self.where}: give 1 to {len(self.images)}")
        if self.num_classes not in (None, classes):
            raise UsageError(f"{self.where} has {self.num_classes} classes, not {classes}: check --data and --data-dir")
        labels = self.labels[:limit]
        for row, label in enumerate(labels):
            if label is None or not 0 <= label < classes:
                place = f"row {row} of {self.where}"
                raise UsageError(f"{place} has label {label}, outside 0..{classes - 1}: check --data and --data-dir")
        pixels = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
        # One thread: PIL holds the interpreter's lock for most of so small an image, and a pool only adds overhead.
        # disable=None: a bar on a terminal, silence elsewhere.
        for row in tqdm(range(len(labels)), f"decoding {self.where}", disable=None, leave=False):
            cell = self.images[row]
            pixels[row] = _decode(cell, cell if isinstance(cell, str) else f"row {row} of {self.where}")
        return torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64)


def read_sources(name: str, data_dir: str | None) -> dict[str, Source]:
    """The train and test splits of the data set `name`, from the folder `data_dir` or, without one, from its home.

    Raises UsageError, in one line with the remedy, for anything that keeps a split from being read.
    """
    if not sys.stderr.isatty():  # bars and the Hub's retries would fill a log
        datasets.disable_progress_bars()
        hub.disable_progress_bars()
        hub.logging.set_verbosity_error()
    if name == "digits":
        if data_dir is not None:
            raise UsageError("the digits come with scikit-learn: leave out --data-dir")
        return _digits()
    if data_dir is not None:
        return _folder(name, Path(data_dir).expanduser())
    with blame(f"cannot reach the Hub for uoft-cs/{name}", "give --data-dir FOLDER with a local copy"):
        tables = datasets.load_dataset(f"uoft-cs/{name}")
    return _tables(dict(tables), f"uoft-cs/{name}")


def _folder(name: str, folder: Path) -> dict[str, Source]:
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give --data-dir the folder with a copy of {name}")
    binary = CIFAR100 if name == "cifar100" else CIFAR10
    for base in (folder, folder / binary.base_folder):
        if (base / binary.meta["filename"]).is_file():
            return _cifar_files(binary, base)
    if (folder / "dataset_dict.json").is_file():
        with blame(f"cannot read {folder}", "save it again with save_to_disk"):
            saved = datasets.DatasetDict.load_from_disk(str(folder))
        return _tables(dict(saved), str(folder))
    if files := sorted(folder.rglob("*.parquet")):
        return _tables(_parquet(files, folder), str(folder))
    if any((folder / split).is_dir() for split in SPLITS):
        return _image_folders(folder)
    raise UsageError(
        f"{folder} holds no copy of {name}: --data-dir takes parquet files, train/CLASS/ and test/CLASS/ with images, "
        f"a DatasetDict from save_to_disk, or {binary.base_folder}"
    )


def _cifar_files(binary: type[CIFAR10], base: Path) -> dict[str, Source]:
    class Here(binary):  # type: ignore[misc, valid-type]
        base_folder = ""  # the files may lie in a folder of any name

    sources = {}
    for split in SPLITS:
        # torchvision compares every file with its known MD5 first, so nothing unknown is ever unpickled.
        with blame(f"cannot read the CIFAR files in {base}", "download and unpack them again"):
            files = Here(base, train=split == "train")
        sources[split] = Source(f"the {split} split of {base}", files.data, files.targets, len(files.classes))
    return sources


def _parquet(files: list[Path], folder: Path) -> dict[str, datasets.Dataset]:
    """Tables read straight into memory: unlike `load_dataset`, this leaves no second copy in the user's cache."""
    tables = {}
    for split in SPLITS:
        shards = [file for file in files if _split_of(file.relative_to(folder)) == split]
        for file in shards:
            if (total := re.search(r"-of-(\d+)", file.stem)) and int(total[1]) != len(shards):
                raise UsageError(f"{folder} has {len(shards)} of {int(total[1])} {split} files: copy the others too")
        parts = []
        for file in shards:
            with blame(f"cannot read {file}", "copy it again"):
                parts.append(datasets.Dataset(pq.read_table(file)))
        if parts:
            with blame(f"the {split} files of {folder} do not fit together", "keep the files of one data set there"):
                tables[split] = datasets.concatenate_datasets(parts)
    return tables


def _split_of(path: Path) -> str | None:
    """The split that a path names: train-00000-of-00003.parquet, cifar10-test.parquet, train/0000.parquet."""
    for part in reversed(path.parts):
        for split in SPLITS:
            if split in re.findall("[a-z]+", part.lower()):
                return split
    return None


def _tables(tables: dict[str, datasets.Dataset], where: str) -> dict[str, Source]:
    sources = {}
    for split in SPLITS:
        if split not in tables:
            raise UsageError(f"{where} has no {split} split: add one (parquet files are named {split}-*.parquet)")
        table = tables[split]
        image, label = columns(table.features, f"the {split} split of {where}")
        with blame(f"cannot read the {split} split of {where}", "copy it again"):
            cells = table.cast_column(image, datasets.Image(decode=False))[image][:]
            labels = table[label][:]
        images = [cell and (cell["bytes"] or cell["path"]) for cell in cells]
        classes = getattr(table.features[label], "num_classes", None)
        sources[split] = Source(f"the {split} split of {where}", images, labels, classes)
    return sources


def columns(features: datasets.Features, where: str) -> tuple[str, str]:
    """The columns of images and labels, by type: names differ (img, image; label, fine_label), types do not.

    Files written without the `datasets` library have no feature types: then an image is a struct with bytes, and
    a label an integer.
    """
    images = [c for c, f in features.items() if isinstance(f, datasets.Image) or (isinstance(f, dict) and "bytes" in f)]
    labels = [c for c, f in features.items() if isinstance(f, datasets.ClassLabel)]
    labels = labels or [c for c, f in features.items() if isinstance(f, datasets.Value) and "int" in f.dtype]
    if not images or not labels:
        missing = "labels" if images else "images"
        raise UsageError(f"{where} has no column of {missing} among {', '.join(features)}: check --data-dir")
    return images[0], next((c for c in ("fine_label", "label") if c in labels), labels[0])


def _image_folders(folder: Path) -> dict[str, Source]:
    sources, classes = {}, []
    for split in SPLITS:
        with blame(f"cannot read {folder / split}", "give --data-dir a folder with train/CLASS/ and test/CLASS/"):
            files = ImageFolder(str(folder / split))
        paths, labels = zip(*files.samples, strict=True)
        sources[split] = Source(f"the {split} split of {folder}", paths, labels, len(files.classes))
        classes.append(files.classes)
    if classes[0] != classes[1]:
        odd = min(set(classes[0]) ^ set(classes[1]))
        raise UsageError(f"{folder} has class {odd} in only one of train/ and test/: give both the same class folders")
    return sources


def _digits() -> dict[str, Source]:
    """scikit-learn's 1797 digits, 8 × 8 with values 0..16, enlarged; the split is the same for all seeds."""
    digits = load_digits()
    small = torch.from_numpy(digits.images).float().mul(255 / 16)[:, None]
    large = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear").round().byte()
    pixels = large.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    rows = train_test_split(np.arange(len(pixels)), test_size=DIGITS_TEST, stratify=digits.target, random_state=0)
    return {
        split: Source(f"the {split} split of the digits", pixels[index], digits.target[index].tolist(), 10)
        for split, index in zip(SPLITS, rows, strict=True)
    }


def _decode(cell: Cell, place: str) -> np.ndarray:
    if not isinstance(cell, np.ndarray):
        try:
            with Image.open(io.BytesIO(cell or b"") if not isinstance(cell, str) else cell) as image:
                cell = np.asarray(image.convert("RGB"))
        except Exception as error:  # PIL's decoders fail with whatever the damage leads them to
            raise UsageError(f"{place} is not a readable image: copy it again") from error
    if cell.shape[:2] != (SIDE, SIDE):
        height, width = cell.shape[:2]
        raise UsageError(f"{place} is {width}×{height} pixels, not {SIDE}×{SIDE}: resize it or check --data-dir")
    return cell


@contextmanager
def blame(mistake: str, remedy: str) -> Iterator[None]:
    """Turns whatever another library raises over bad input into one line: no list of their exceptions would be full."""
    try:
        yield
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
        raise UsageError(f"{mistake}: {reason}; {remedy}") from error
