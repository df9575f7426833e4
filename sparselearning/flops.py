"""What training and inference cost, in floating-point operations (FLOPs) for one sample.

Only weights count: those of convolutions, linear layers and the projections of attention. A layer that makes `o`
outputs, each a dot product over `v` inputs of which a fraction `d` has a weight, costs

- `plain`: 2·v·d·o, a multiplication and an addition for each weight that is there;
- `rigl`:  2·v·d·o + o, the counting of Evci et al. (2020): a dot product needs one addition less, but every layer is
  given a bias and a ReLU, one operation each (`get_stats` in google-research/rigl, rigl/sparse_utils.py).

Published ratios for ImageNet's ResNet-50 (0.42× at 80 % sparsity) are `rigl`. Both say what a sparse kernel would need:
masked dense layers run no faster.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sparselearning.errors import UsageError

Counting = Literal["plain", "rigl"]
StepKind = Literal["dense", "sparse", "dense_gradient_at_updates", "dense_gradient_always"]

WEIGHTED = (F.conv1d, F.conv2d, F.conv3d, F.linear)


@dataclass(frozen=True)
class LayerCost:
    """How the forward pass of one sample uses one weight tensor."""

    fan_in: int  # v: weights in one dot product when dense
    outputs: int  # o: dot products
    rigl_outputs: int  # o as RigL counts it; another number only for the ImageNet stem

    def flops(self, density: float = 1.0, counting: Counting = "plain") -> float:
        """FLOPs when a fraction `density` of the weights is there."""
        if counting == "plain":
            return 2 * self.fan_in * density * self.outputs
        if counting == "rigl":
            return (2 * self.fan_in * density + 1) * self.rigl_outputs
        raise UsageError(f"unknown counting {counting!r}: choose one of {', '.join(get_args(Counting))}")


class _Uses(TorchFunctionMode):
    """Counts the outputs that each weight makes inside the context, whether a module or a bare function applies it."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: Counter[Tensor] = Counter()
        self.rigl_outputs: Counter[Tensor] = Counter()

    def __torch_function__(  # type: ignore[explicit-any]  # of whatever torch calls
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in WEIGHTED:
            call = dict(zip(("input", "weight"), args, strict=False)) | kwargs
            self.outputs[call["weight"]] += result.numel()
            self.rigl_outputs[call["weight"]] += _rigl_outputs(call["input"], call["weight"], result)
        elif func is F.multi_head_attention_forward:
            used = _attention_outputs(**inspect.signature(func).bind(*args, **kwargs).arguments)
            self.outputs.update(used)
            self.rigl_outputs.update(used)
        return result


def _rigl_outputs(inputs: Tensor, weight: Tensor, output: Tensor) -> int:
    """Keras pads the image in a layer of its own before ResNet's stem; RigL's count pads once more: 115² for 112²."""
    if weight.shape[2:] == (7, 7) and output.shape[-1] == (inputs.shape[-1] + 1) // 2:
        height, width = inputs.shape[-2:]
        return len(inputs) * len(weight) * ((height + 7) // 2) * ((width + 7) // 2)
    return output.numel()


def _attention_outputs(query: Tensor, key: Tensor, value: Tensor, **call: Any) -> dict[Tensor, int]:  # type: ignore[explicit-any]
    """Every token of the three inputs is projected on its way in, every query once more on its way out."""
    q, k, v = (call["embed_dim_to_check"] * (x.numel() // x.shape[-1]) for x in (query, key, value))
    if call.get("use_separate_proj_weight"):
        projected = {call["q_proj_weight"]: q, call["k_proj_weight"]: k, call["v_proj_weight"]: v}
    else:
        projected = {call["in_proj_weight"]: q + k + v}
    return projected | {call["out_proj_weight"]: q}


def layer_costs(model: nn.Module, input_shape: Sequence[int] = (3, 224, 224)) -> dict[str, LayerCost]:
    """{parameter name: cost} of every weight that the forward pass of one sample uses, as often as it uses it.

    `input_shape` is that of the sample, without the batch. The pass runs where the model is and in its dtype, in
    evaluation mode, and leaves the model as it was.
    """
    parameters = dict(model.named_parameters())
    example = next(iter(parameters.values())).new_zeros(1, *input_shape)
    training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad(), _Uses() as uses:
            model(example)
    finally:
        for module, flag in training.items():
            module.training = flag
    return {
        name: LayerCost(weight[0].numel(), uses.outputs[weight], uses.rigl_outputs[weight])
        for name, weight in parameters.items()
        if weight in uses.outputs
    }


def forward_flops(
    costs: Mapping[str, LayerCost], densities: Mapping[str, float] | None = None, counting: Counting = "plain"
) -> float:
    """FLOPs of one forward pass of one sample; a layer that `densities` does not name is dense."""
    densities = densities or {}
    return sum(cost.flops(densities.get(name, 1.0), counting) for name, cost in costs.items())


def step_flops(kind: StepKind, f_s: float, f_d: float, update_frequency: int) -> float:
    """FLOPs of one training step per sample, on average from one topology update to the next (Evci et al., 2020).

    `f_s` and `f_d` are the FLOPs of the sparse and the dense forward pass. The backward pass costs two more, for the
    gradients of the activations and of the weights. The latter is dense where connections that are absent are scored
    by their gradient: for RigL in one step after every `update_frequency`, for SNFS always.
    """
    match kind:
        case "dense":
            return 3 * f_d
        case "sparse":  # static, SNIP, SET; GMP at the density of the moment
            return 3 * f_s
        case "dense_gradient_at_updates":  # RigL; GraNet at the density of the moment
            return (3 * f_s * update_frequency + 2 * f_s + f_d) / (update_frequency + 1)
        case "dense_gradient_always":  # SNFS
            return 2 * f_s + f_d
    raise UsageError(f"unknown kind of step {kind!r}: choose one of {', '.join(get_args(StepKind))}")
