"""Where images come from: the Hub, scikit-learn, or a local folder in any of the forms people keep them in.

Every form becomes the same thing: `Rows`, a training and a test split of them. Whatever is wrong with a source is
raised as a UsageError of one line, which names the file or the row, and the remedy.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import datasets
import huggingface_hub.constants
import huggingface_hub.utils as hub

from sparselearning.errors import UsageError
from utils.data.folders import HELD_OUT, TRAIN, existing, parquet_files
from utils.data.formats.cifar_files import read_cifar_files
from utils.data.formats.digits import read_digits
from utils.data.formats.image_folder import read_image_folders
from utils.data.formats.row_groups import RowGroups, open_row_groups
from utils.data.formats.tables import Tables, in_memory, on_disk, read_tables, refuse_column, saved_tables
from utils.data.recipes import RECIPES, Recipe
from utils.data.rows import EncodedRows, Rows, same_classes
from utils.files.errors import explained

TEST = ("test", *HELD_OUT)  # the first that is there is the test split
LARGE_TEST = (*HELD_OUT, "test")  # likewise: ImageNet's own test labels are secret


def read_small(data: str, data_dir: str | None, recipe: Recipe) -> tuple[Rows, Rows]:
    """Training and test split of the data set `data`, from the folder `data_dir` or, without one, from its home."""
    keep_quiet()
    if data == "digits":
        if data_dir is not None:
            raise UsageError("the digits come with scikit-learn: leave out --data-dir")
        refuse_column(recipe.label_column, "the digits")
        return read_digits()
    if data_dir is None:
        if recipe.hub is None:
            known = ", ".join(RECIPES)
            raise UsageError(f"unknown --data {data}: choose from {known}, or give the folder with --data-dir")
        return read_hub(recipe.hub, recipe.config, TEST, recipe.label_column)
    folder = existing(data_dir)
    if recipe.config and (folder / recipe.config).is_dir():
        folder /= recipe.config
    files = read_cifar_files(data, folder, recipe.label_column)
    return files or read_folder(folder, TEST, in_memory, recipe.label_column)


def read_large(data: str, data_dir: str | None, label_column: str | None = None) -> tuple[EncodedRows, EncodedRows]:
    """Training and test split of the folder `data_dir`, or of the Hub's data set `data`."""
    keep_quiet()
    if data_dir is None:
        return read_hub(data, None, LARGE_TEST, label_column)
    return read_folder(existing(data_dir), LARGE_TEST, on_disk, label_column)


def open_streams(data: str, data_dir: str | None, label_column: str | None = None) -> tuple[RowGroups, RowGroups]:
    """As `read_large` of parquet files, which stay where they are and are read when they are needed."""
    keep_quiet()
    features = None
    if data_dir is None:
        where, remedy = data, how_to_get(data)
        with explained(f"cannot get {data} from the Hub", remedy):
            builder = datasets.load_dataset_builder(data)
            features = builder.info.features
            files: Mapping[str, Sequence[str]] = {str(k): list(urls) for k, urls in builder.config.data_files.items()}
    else:
        where, remedy = str(existing(data_dir)), "copy it again"
        files = parquet_files(existing(data_dir))
    if not files or not all(file.endswith(".parquet") for file in chain(*files.values())):
        raise UsageError(
            f"--streaming reads parquet files, which tell the number of their images, and {where} has none: leave "
            + ("--streaming out" if data_dir else f"--streaming out, or {remedy}")
        )
    train, test = (
        open_row_groups(names, files, where, features, remedy, label_column) for names in (TRAIN, LARGE_TEST)
    )
    same_classes(train, test, where)
    return train, test


def read_hub(
    name: str, config: str | None, test: Sequence[str], label_column: str | None
) -> tuple[EncodedRows, EncodedRows]:
    """Training split, and the first split among `test`, of a data set of the Hub in one of its configurations."""
    with explained(f"cannot get {name} from the Hub", how_to_get(name)):
        tables = dict(datasets.load_dataset(name, config))
    caches = datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE
    return read_tables(tables, test, name, tuple(map(Path, caches)), label_column)


def read_folder(
    folder: Path,
    test: Sequence[str],
    open_parquet: Callable[[Mapping[str, Sequence[str]]], Tables],
    label_column: str | None,
) -> tuple[EncodedRows, EncodedRows]:
    """Likewise of a folder of encoded images in any of the forms."""
    if (folder / "dataset_dict.json").is_file():
        tables = saved_tables(folder)
    elif files := parquet_files(folder):
        tables = open_parquet(files)
    else:
        refuse_column(label_column, str(folder))
        return read_image_folders(folder, test)
    return read_tables(tables, test, str(folder), (folder,), label_column)


def keep_quiet() -> None:
    """Bars and the Hub's retries would fill a log."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        hub.disable_progress_bars()
        hub.logging.set_verbosity_error()


def how_to_get(name: str) -> str:
    gated = f"accept its terms at https://huggingface.co/datasets/{name} and log in with `hf auth login`, or "
    return (gated if name == "ILSVRC/imagenet-1k" else "") + (
        "give --data-dir FOLDER with a local copy (parquet, train/CLASS/ and val/CLASS/ with images, or save_to_disk)"
    )
