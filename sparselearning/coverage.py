"""Which share of a model is masked, in words."""

import fnmatch
import warnings
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sparselearning.layers import embeddings, left_dense

_NAMES = 3  # of what stays dense
_MUCH = 0.1  # of the parameters, left dense though nothing asked for it, that is worth a warning


def coverage(model: nn.Module, weights: Mapping[str, Tensor], nnz: int) -> str:
    """How many of the model's parameters are masked, and which larger ones are not."""
    everything = sum(parameter.numel() for parameter in model.parameters())
    masked = sum(weight.numel() for weight in weights.values())
    dense = left_dense(model, weights)
    names = [f"{name} ({size:,})" for name, size in list(dense.items())[:_NAMES]]
    more = [f"{len(dense) - _NAMES} more weights"] if len(dense) > _NAMES else []
    vectors = everything - masked - sum(dense.values())
    return (
        f"{len(weights)} weights with {masked:,} of the model's {everything:,} parameters "
        f"({100 * masked / everything:.1f} %) are masked, {nnz:,} of them active; dense stay "
        f"{', '.join([*names, *more, f'{vectors:,} in biases and norms'])}"
    )


def warn_of_dense(model: nn.Module, weights: Mapping[str, Tensor], exempt: Sequence[str]) -> None:
    """Warns where a large part of the model stays dense that is neither an embedding, nor frozen, nor exempt."""
    named, looked_up = dict(model.named_parameters()), embeddings(model)
    surprising = [
        name
        for name in left_dense(model, weights)
        if named[name].requires_grad
        and id(named[name]) not in looked_up
        and not any(fnmatch.fnmatch(name, pattern) for pattern in exempt)
    ]
    size = sum(named[name].numel() for name in surprising)
    everything = sum(parameter.numel() for parameter in model.parameters())
    if size > _MUCH * everything:
        names = ", ".join(surprising[:_NAMES]) + (", ..." if len(surprising) > _NAMES else "")
        warnings.warn(
            f"{100 * size / everything:.0f} % of the parameters stay dense in {names}: name them in include= to mask "
            f"them, or in exempt= if that is wanted",
            stacklevel=4,
        )
