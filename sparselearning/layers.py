"""Which weights of a model are masked, and which optimizer holds them; tensors cleared outside of masks."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from sparselearning.errors import UsageError, is_names, shown
from sparselearning.kinds import kind_of

_MASKABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_WRAPPERS = ("_orig_mod", "_forward_module")  # where torch.compile and Lightning Fabric keep the module
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def unwrap(model: nn.Module) -> nn.Module:
    """The model without the wrappers of DDP, compilation, Fabric and averaging: its parameters have plain names.

    Raises:
        UsageError: it is no module.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is {kind_of(model)}, not a torch.nn.Module")
    while True:
        if isinstance(model, DistributedDataParallel | nn.DataParallel | AveragedModel):
            model = model.module
        elif inner := next((m for name in _WRAPPERS if isinstance(m := getattr(model, name, None), nn.Module)), None):
            model = inner
        else:
            return model


def maskable_weights(
    model: nn.Module, exempt: Sequence[str] = (), include: Sequence[str] = ()
) -> dict[str, nn.Parameter]:
    """The weights that can be sparse, by parameter name, in the order of the modules.

    They are the weights of every convolution and linear layer (transformers' Conv1D too) that are trained, but for
    those that are also the weight of an embedding; never biases or norm parameters.

    Args:
        exempt: shell patterns of parameter names to leave dense, e.g. "classifier.*".
        include: shell patterns of further parameters to mask, of two dimensions or more: the weights of recurrent
            layers, of mixtures of experts, of parametrizations, a head that is tied to an embedding. Weight norm
            divides by the norm of a row, which is zero where the row has no connection: keep it dense enough.

    Raises:
        UsageError: a pattern names nothing that could be meant, or there is nothing to mask.
    """
    for option, patterns in {"exempt": exempt, "include": include}.items():
        if not is_names(patterns):
            raise UsageError(f"{option} {shown(patterns)} is not a list of shell patterns of parameter names")
    weights = layer_weights(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for pattern in exempt:
        if not fnmatch.filter(parameters, pattern):
            raise UsageError(
                f"exempt {pattern!r} names no parameter: the first weights are {', '.join([*weights][:3])}"
            )
    for pattern in include:
        known = {id(weight) for weight in weights.values()}
        weights |= {name: w for name, w in _included(parameters, pattern).items() if id(w) not in known}
    weights = {name: w for name, w in weights.items() if not any(fnmatch.fnmatch(name, p) for p in exempt)}
    if not weights:
        raise UsageError(
            "the model has no convolution or linear weights left to mask: name weights of other layers with include="
        )
    return weights


def embeddings(model: nn.Module) -> set[int]:
    """The ids of the weights that are looked up row by row, those of heads that are tied to them included."""
    return {id(module.weight) for module in model.modules() if isinstance(module, _EMBEDDINGS)}


def layer_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that are masked unless a pattern says otherwise."""
    weights: dict[str, nn.Parameter] = {}
    seen = embeddings(model)
    for prefix, module in model.named_modules():
        for attribute in _attributes(module):
            weight = module._parameters.get(attribute)  # to read a parametrized weight may change it: spectral_norm
            if weight is not None and weight.requires_grad and id(weight) not in seen:
                weights[f"{prefix}.{attribute}".lstrip(".")] = weight
                seen.add(id(weight))
    return weights


def _attributes(module: nn.Module) -> Sequence[str]:
    """Where a layer keeps its maskable weights; attention holds its projections as parameters of its own."""
    if isinstance(module, nn.MultiheadAttention):
        return _ATTENTION
    kind = type(module)  # transformers' Conv1D is a linear layer, whose class need not be imported to be known
    linear = kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"
    return ("weight",) if linear or isinstance(module, _MASKABLE) else ()


def _included(named: Mapping[str, nn.Parameter], pattern: str) -> dict[str, nn.Parameter]:
    """The matrices that a pattern names; biases and other vectors beside them are passed over."""
    found = {name: named[name] for name in fnmatch.filter(named, pattern)}
    matrices = {name: weight for name, weight in found.items() if weight.ndim >= 2 and weight.requires_grad}
    if not matrices:
        what = "no trained parameter of two dimensions or more" if found else "no parameter of the model"
        raise UsageError(f"include {pattern!r} names {what}: see model.named_parameters()")
    return matrices


def left_dense(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """{name: size} of the parameters of two dimensions or more that are not masked, largest first."""
    masked = {id(weight) for weight in weights.values()}
    dense = {name: w.numel() for name, w in model.named_parameters() if w.ndim >= 2 and id(w) not in masked}
    return dict(sorted(dense.items(), key=lambda item: -item[1]))


def torch_optimizer(optimizer: object, weights: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The torch optimizer below wrappers such as Accelerate's and Fabric's, checked to hold the weights themselves."""
    while (inner := getattr(optimizer, "optimizer", None)) is not None:
        optimizer = inner
    if not isinstance(optimizer, torch.optim.Optimizer) or not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        raise UsageError(
            f"the optimizer is {kind_of(optimizer)}, neither a torch optimizer nor a wrapper of one in `.optimizer`: "
            f"give Masking that whose step() changes the weights"
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, weight in weights.items():
        if id(weight) not in held or hasattr(weight, "device_mesh") or hasattr(weight, "ds_id"):
            raise UsageError(
                f"the optimizer does not hold {name} whole: build it on model.parameters() before Masking, or leave "
                f"dense what another optimizer holds (exempt=); FSDP and DeepSpeed, which shard weights over "
                f"processes, are not supported (DDP is)"
            )
    return optimizer


def bits(tensor: Tensor) -> Tensor:
    """The same memory, read as integers."""
    return tensor.view(_BITS[tensor.element_size()])


def memory(tensor: Tensor) -> tuple[object, ...]:
    """Equal for tensors that are the same numbers in the same place."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def clear_(tensors: Iterable[Tensor], masks: Iterable[Tensor]) -> None:
    """Zero each tensor outside its mask, in place.

    The product is one of bit patterns as integers: it clears a NaN or an infinity too and leaves no negative zero,
    which a product of floats would not, and takes a quarter of the time of `where`. It is one operator for all
    tensors; masks of the integers' type would make it one kernel too, but be four times as large to keep and to read.
    """
    if integers := [bits(tensor) for tensor in tensors]:
        torch._foreach_mul_(integers, list(masks))


def count_outside(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, int]:
    """How many entries are not zero outside the masks, by name, only where there are some; NaN counts."""
    if not masks:
        return {}
    counts = torch.stack([((tensors[name] != 0) > mask).count_nonzero() for name, mask in masks.items()]).tolist()
    return {name: count for name, count in zip(masks, counts, strict=True) if count}
