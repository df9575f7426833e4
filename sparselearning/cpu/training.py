"""Sparse training on a CPU that does not compute absent connections."""

from sparselearning.cpu.needs import has_numba, unsuitable
from sparselearning.errors import UsageError
from sparselearning.kinds import kind_of
from sparselearning.masking import Masking


def sparse_training(masking: Masking) -> list[str]:
    """Let the model of a masking compute its connections alone while it trains on a CPU, forward and backward.

        masking = Masking(model, optimizer, method="rigl", density=0.05)
        sparse_training(masking)            # the training loop stays as it is

    Convolutions (dilation 1, groups 1) and linear layers take the sparse kernels while at most half of their weights
    are connections. Gradients equal the dense ones but for rounding where there are connections, and are zero elsewhere
    but in steps in which `masking` reads them there. In evaluation, under `torch.no_grad()` and in copies of the model
    the layers are dense as before. They take images of any strides, and make channels_last ones.

    Returns:
        The names of the weights whose layers can do so.

    Raises:
        UsageError: numba, the extra `cpu`, is not installed; a masked weight is not float32 on a CPU; or no layer can.
    """
    check_numba()
    if (wrong := unsuitable(masking.weights.values())) is not None:
        raise UsageError(f"sparse kernels compute float32 on a CPU, not {kind_of(wrong)}: train without them")
    from sparselearning.cpu.layers import fits  # which import numba
    from sparselearning.cpu.trained import SPARSE, Connected

    names = {id(weight): name for name, weight in masking.weights.items()}
    able = []
    for module in masking.model.modules():
        if fits(module) and (name := names.get(id(module.weight))) is not None:
            module.__class__ = SPARSE[type(module)]
            module.connected = Connected(module, masking.masks[name], masking)  # type: ignore[arg-type, assignment]
            able.append(name)
    if not able:
        raise UsageError("sparse kernels are for nn.Conv2d (groups 1, dilation 1) and nn.Linear: the model masks none")
    return able


def check_numba() -> None:
    """Raises UsageError where it is not installed."""
    if not has_numba():
        raise UsageError("sparse kernels need numba: pip install 'sup-tickets[cpu]'")
