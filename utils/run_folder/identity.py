"""The identity of a run: what must not change when it is resumed."""

from collections.abc import Collection, Mapping

from utils.command_line.options import LargeImageOptions, Options, changes_results, effective
from utils.command_line.rows import Setting


def identity(options: Options, batch_size: int, steps_per_epoch: int) -> dict[str, Setting]:
    """What must be equal for a checkpoint to go on; `batch_size` is that of all processes and parts together."""
    streaming = isinstance(options, LargeImageOptions) and options.streaming
    own = deciding(effective(options), parts=streaming)
    return own | {"whole_batch_size": batch_size, "steps_per_epoch": steps_per_epoch}


def deciding(options: Mapping[str, Setting], *, parts: bool) -> dict[str, Setting]:
    """Those of recorded options that change results; `parts`: as for `changes_results`."""
    return {name: value for name, value in options.items() if changes_results(name, parts=parts)}


def difference(saved: Mapping[str, object], own: Mapping[str, object], but: Collection[str] = ()) -> str | None:
    """The first entry in which two runs differ, in words such as "density 0.1, not 0.2"; None: they are the same.

    Those in `but` may differ. A switch that an older version did not have yet was off.
    """
    for name in (name for name in {**own, **saved} if name not in but):
        if name not in own or own[name] != saved.get(name, False):
            return f"{name} {saved.get(name)}, not {own.get(name)}"
    return None
