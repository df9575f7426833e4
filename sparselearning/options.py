"""The arguments of a Masking by name, for who passes them on; `Masking` describes them."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from torch import Tensor

from sparselearning.distributions import Density


class MaskingOptions(TypedDict, total=False):
    """Those that have a default, but for the first two and the batches."""

    init_density: float | None
    sparse_init: str | Mapping[str, Tensor] | None
    update_frequency: int
    prune_rate: float | None
    prune_rate_decay: str
    growth: str | None
    prune_start: int
    prune_end: int | None
    total_steps: int | None
    exempt: Sequence[str]
    include: Sequence[str]
    seed: int


class MaskingArguments(MaskingOptions, total=False):
    """And the first two."""

    method: str
    density: Density
