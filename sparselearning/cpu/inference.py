"""A sparse network on a CPU: layers whose absent connections are not computed, where that is measured to be faster."""

import copy
import time
import warnings
from collections.abc import Callable, Mapping, Set
from functools import partial
from statistics import median

import torch
from torch import Tensor, fx, nn
from torch.utils.hooks import RemovableHandle

from sparselearning.cpu.needs import has_numba, unsuitable
from sparselearning.cpu.tracing import traced
from sparselearning.errors import UsageError
from sparselearning.kinds import kind_of
from sparselearning.layers import unwrap

TILE = 16  # images at a time: a vector of the kernels
SECONDS, FEWEST, MOST = 0.03, 3, 100  # of a measurement, and turns of it
TOLERANCE = 1e-4  # of a whole network's outputs, relative to the largest: sums are added in another order


class SparseNetwork(nn.Module):
    """A graph of sparse layers; a batch goes through it in parts that stay in the cache."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """(N, …) → (N, …), without gradients."""
        with torch.no_grad():
            return torch.cat([self.graph(images[i : i + TILE]) for i in range(0, len(images), TILE)])


def sparse_inference(model: nn.Module, example_input: Tensor) -> nn.Module:
    """A copy of the model in evaluation mode that is faster on this machine's CPU, by its absent connections.

    Batch norms are folded into the convolutions before them. Every convolution (dilation 1, groups 1) and linear layer
    is then timed, dense and sparse in turn, with the input that it has in `model(example_input)` and torch's present
    number of threads, and becomes sparse where that is faster. The copy takes batches of any size, but is chosen for
    that of the example; it computes in float32 and equals the model but for rounding.

    A model that torch.fx cannot trace keeps its batch norms, and a tensor between any two layers, which is slower.
    Without numba, the extra `cpu`, all layers stay dense, and a warning says so.

    Args:
        model: takes one tensor whose first dimension is the batch, and makes one.
        example_input: such a tensor.

    Raises:
        UsageError: model or input are not float32 on a CPU, or the model computes at random in evaluation.
    """
    model = unwrap(model)
    wrong = unsuitable(model.parameters())
    if wrong is not None or not isinstance(example_input, Tensor):
        given = kind_of(example_input if wrong is None else wrong)
        raise UsageError(f"sparse inference is for float32 on a CPU, not {given}: use model.float().cpu() and a tensor")
    own = copy.deepcopy(model).eval().requires_grad_(False)
    graph = traced(own)
    dense = own if graph is None else graph
    if not has_numba():
        warnings.warn("numba is not installed, all layers stay dense: pip install 'sup-tickets[cpu]'", stacklevel=2)
        return dense
    from sparselearning.cpu.layers import fits  # which imports numba

    with torch.no_grad():
        best, expected = dense, dense(example_input)
        if not isinstance(expected, Tensor):
            raise UsageError(f"the model makes {kind_of(expected)}: sparse inference is for one tensor in, one out")
        layers = {name: layer for name, layer in dense.named_modules() if fits(layer)}
        chosen = _faster_sparse(dense, layers, example_input[:TILE])
        # few dense layers between sparse ones may cost more than they save: threads of torch wait for work beside ours
        for network in (_sparse(dense, names) for names in dict.fromkeys((chosen, frozenset(layers))) if names):
            scale = expected.nan_to_num().abs().max().item()
            if not torch.allclose(network(example_input), expected, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
                raise UsageError("the sparse copy makes other outputs than the model: does it compute at random?")
            if is_faster(partial(network, example_input), partial(best, example_input)):
                best = network
        return best


def _sparse(dense: nn.Module, names: Set[str]) -> nn.Module:
    """A copy of the network in which these layers are sparse."""
    from sparselearning.cpu.layers import SparseConvolution
    from sparselearning.cpu.network import on_maps
    from sparselearning.cpu.steps import LinearOnPixels, Plain

    own = copy.deepcopy(dense)
    if isinstance(own, fx.GraphModule):
        return SparseNetwork(on_maps(own, names))
    for name in names:
        layer = own.get_submodule(name)
        if isinstance(layer, nn.Linear):
            own.set_submodule(name, LinearOnPixels(layer))
        elif isinstance(layer, nn.Conv2d):
            own.set_submodule(name, nn.Sequential(SparseConvolution(layer), Plain()))
    return SparseNetwork(own)


def _faster_sparse(
    model: nn.Module, layers: Mapping[str, nn.Conv2d | nn.Linear], example_input: Tensor
) -> frozenset[str]:
    """The names of the layers that are faster sparse than dense, the others around them being sparse."""
    from sparselearning.cpu.layers import SparseConvolution
    from sparselearning.cpu.maps import Map
    from sparselearning.cpu.steps import LinearOnPixels

    chosen: set[str] = set()

    def measured(name: str, layer: nn.Conv2d | nn.Linear) -> RemovableHandle:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            handles.pop(name).remove()  # it counts once, and may be called here
            x = arguments[0].contiguous()
            if isinstance(layer, nn.Linear):
                linear = LinearOnPixels(layer)
                faster = is_faster(lambda: linear(x), lambda: layer(x))
            else:
                convolution = SparseConvolution(layer)
                given = Map.of(x, max(convolution.window.padding))
                faster = is_faster(lambda: convolution(given), lambda: Map.of(layer(x), 1))
            if faster:
                chosen.add(name)

        return layer.register_forward_pre_hook(hook)

    handles = {name: measured(name, layer) for name, layer in layers.items()}
    model(example_input)
    for handle in handles.values():  # of layers that are not called
        handle.remove()
    return frozenset(chosen)


def is_faster(one: Callable[[], object], other: Callable[[], object]) -> bool:
    """By the medians of turns."""
    times: list[tuple[float, float]] = []
    while len(times) < FEWEST or (sum(map(sum, times)) < SECONDS and len(times) < MOST):
        times.append((seconds(one), seconds(other)))
    return median(a for a, _ in times) < median(b for _, b in times)


def seconds(call: Callable[[], object]) -> float:
    """How long the second of two calls takes: for the first one, threads wake up and the other's fall asleep."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
