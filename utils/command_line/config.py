"""YAML files of options, read so that what they could mean two ways is refused."""

import argparse
import datetime
import difflib
import itertools
from collections.abc import Iterable
from pathlib import Path

import yaml

from sparselearning.errors import UsageError

MOST = 2**20  # bytes; a file of options has a few hundred


class Loader(yaml.SafeLoader):
    """Without a word, YAML itself takes the last of two values for a key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [key.value for key, _ in node.value]
        if twice := next((key for key in keys if isinstance(key, str) and keys.count(key) > 1), None):
            raise yaml.YAMLError(f"{twice} is given twice")
        content: dict[object, object] = super().construct_mapping(node, deep)
        return content


def read_mapping(path: Path, what: str) -> dict[object, object]:
    """The content of a YAML file, empty where there is none; `what` names it in messages.

    Raises:
        UsageError: it cannot be read, or is no mapping.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        if path.stat().st_size > MOST:
            raise ValueError(f"it has more than {MOST:,} bytes")
        content = yaml.load(path.read_text("utf-8"), Loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{what} cannot be read: {' '.join(str(error).split())[:300]}") from error
    if content is not None and not isinstance(content, dict):
        raise UsageError(f"{what} is not a mapping of option names to values")
    return content or {}


def config_words(actions: Iterable[argparse.Action], path: Path) -> list[str]:
    """A file of options as command line words, so that both are checked by the same rules.

    Raises:
        UsageError: a key is no option or comes twice, or a value could be read as something else.
    """
    where = f"--config {path}"
    known = {action.dest: action for action in actions if action.option_strings}
    words: dict[str, list[str]] = {}
    for key, value in read_mapping(path, where).items():
        dest = str(key).replace("-", "_")
        if dest not in known or dest in ("config", "help"):
            near = difflib.get_close_matches(dest, known, 1)
            raise UsageError(f"{where}: unknown key {key!r}" + (f", did you mean {near[0]}?" if near else ""))
        if dest in words:
            raise UsageError(f"{where}: {dest} is given twice")
        if value is None or value == []:
            continue  # as by default
        switch = known[dest].nargs == 0
        if switch != isinstance(value, bool):
            raise UsageError(f"{where}: {key} takes {'true or false' if switch else 'a value'}, not {value!r:.99}")
        words[dest] = [known[dest].option_strings[0]] if value is not False else []
        if not switch:
            words[dest] += [_word(f"{where}: {key}", v) for v in (value if isinstance(value, list) else [value])]
    return list(itertools.chain.from_iterable(words.values()))


def _word(where: str, value: object) -> str:
    """Raises UsageError where a value is nothing to be typed, or would be taken for an option."""
    if not isinstance(value, str | int | float | datetime.date) or (isinstance(value, str) and value.startswith("-")):
        raise UsageError(f"{where} takes a word or a number, not {type(value).__name__} {value!r:.99}")
    return str(value)
