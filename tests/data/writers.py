"""Images for the tests of data, and a writer for every form in which people keep them."""

import hashlib
import io
import itertools
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torchvision.datasets import CIFAR10

from utils.data.decoding import JPEG

NAMES = [f"class{i}" for i in range(10)]
Example = tuple[bytes, int]  # an encoded image and its label


def encoded(image: np.ndarray | Image.Image, kind: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_and_labels(split: str) -> tuple[np.ndarray, list[int]]:
    """20 or 10 images of CIFAR's size, ten classes in turns, as images in folders are listed."""
    n = 20 if split == "train" else 10
    pixels = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return pixels, [i % 10 for i in range(n)]


def gray_image(i: int) -> np.ndarray:
    """28 × 28 bytes that grow brighter with the class."""
    return np.random.default_rng(i).integers(40 * (i % 3), 140 + 40 * (i % 3), (28, 28), dtype=np.uint8)


def picture(i: int) -> Example:
    """Noise of its own size and color, as PNG or JPEG; three classes in turns."""
    rng = np.random.default_rng(i)
    height, width = rng.integers(20, 70, 2)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return encoded(pixels, "png" if i % 3 else "jpeg"), i % 3


@dataclass(frozen=True)
class Content:
    """Two splits, and what their classes and the test split are called."""

    train: Sequence[Example]
    test: Sequence[Example]
    names: Sequence[str]
    test_name: str

    def splits(self) -> Iterator[tuple[str, Sequence[Example]]]:
        return iter((("train", self.train), (self.test_name, self.test)))


SMALL = Content(
    *([(encoded(x), label) for x, label in zip(*pixels_and_labels(split), strict=True)] for split in ("train", "test")),
    NAMES, "test",
)  # fmt: skip
CLOTHES = Content(
    *([(encoded(gray_image(i)), i % 3) for i in numbers] for numbers in (range(48), range(48, 78))),
    ("bag", "coat", "shoe"), "val",
)  # fmt: skip
LARGE = Content([picture(i) for i in range(24)], [picture(i) for i in range(24, 33)], ("ant", "bee", "cat"), "val")


def table(examples: Sequence[Example], names: Sequence[str] | None = NAMES, column: str = "img") -> datasets.Dataset:
    """Without names of the classes, labels are integers."""
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    cells = [{"bytes": content, "path": None} for content, _ in examples]
    features = datasets.Features({column: datasets.Image(), "label": label})
    return datasets.Dataset.from_dict({column: cells, "label": [label for _, label in examples]}, features)


def write_images(folder: Path, content: Content = SMALL) -> Path:
    """A folder for each split, and in it for each class."""
    for split, examples in content.splits():
        for i, (image, label) in enumerate(examples):
            place = folder / split / content.names[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i:03}.{'jpg' if image.startswith(JPEG) else 'png'}").write_bytes(image)
    return folder


def write_parquet(folder: Path, content: Content = SMALL) -> Path:
    """As on the Hub, the training split in three files."""
    for (split, examples), shards in zip(content.splits(), (3, 1), strict=True):
        for i in range(shards):
            rows = table(examples, content.names).shard(shards, i, contiguous=True)
            rows.to_parquet(folder / f"{split}-{i:05}-of-{shards:05}.parquet")
    return folder


def write_nested(folder: Path) -> None:
    (folder / "plain_text").mkdir()
    write_parquet(folder / "plain_text")


def write_plain_parquet(folder: Path) -> None:
    """As pyarrow or pandas writes it: no features, a struct and an integer."""
    for split, examples in SMALL.splits():
        labels = [label for _, label in examples]
        rows = {"row": list(map(str, labels)), "image": [{"bytes": content} for content, _ in examples], "y": labels}
        (folder / split).mkdir()
        pq.write_table(pa.table(rows), folder / split / "0000.parquet")


def write_row_groups(folder: Path, examples: dict[str, datasets.Dataset], shards: int, group: int) -> Path:
    """Parquet files of unequal length, with so many images per row group."""
    (folder / "data").mkdir(parents=True)
    for split, rows in examples.items():
        edges = [len(rows) * i**2 // shards**2 for i in range(shards + 1)]
        for i, (start, stop) in enumerate(itertools.pairwise(edges)):
            place = folder / f"data/{split}-{i:05}-of-{shards:05}.parquet"
            pq.write_table(rows.data.table[start:stop], place, row_group_size=group)
    return folder


def write_saved(folder: Path, content: Content = SMALL) -> Path:
    """By `save_to_disk`."""
    rows = {split: table(examples, content.names) for split, examples in content.splits()}
    datasets.DatasetDict(rows).save_to_disk(str(folder))
    return folder


def write_binary(folder: Path) -> None:
    """cifar-10-batches-py: rows of 3072 bytes, channel by channel."""
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    pixels, labels = pixels_and_labels("train")
    chunks = [(f"data_batch_{i + 1}", pixels[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4]) for i in range(5)]
    for file, x, y in [*chunks, ("test_batch", *pixels_and_labels("test"))]:
        rows = {"data": x.transpose(0, 3, 1, 2).reshape(len(x), -1), "labels": list(y)}
        (folder / file).write_bytes(pickle.dumps(rows))


def write_binary_inside(folder: Path) -> None:
    (folder / "cifar-10-batches-py").mkdir()
    write_binary(folder / "cifar-10-batches-py")


def publish(folder: Path, monkeypatch: Any) -> None:
    """The tiny binary files cannot have the digests of the real ones: those that they have are the published ones."""
    files = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, part, [(name, files.get(name, md5)) for name, md5 in getattr(CIFAR10, part)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": files.get("batches.meta", "none")})
