"""Mixed precision and compiled models."""

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch._dynamo.backends.registry import lookup_backend

from tests.outcomes import differences, last_state, outcome
from tests.tiny import SPARSE, SUP_TICKETS, main

RUN = (*SPARSE, *SUP_TICKETS, "--model", "plain")


def test_bf16_trains_and_keeps_single_precision_weights(tmp_path):
    status, _, err = main(tmp_path, *SPARSE, *SUP_TICKETS, "--model", "tiny", "--mixed-precision", "bf16")
    assert (status, err) == (0, "")
    ticket = load_file(tmp_path / "ticket.safetensors")
    assert {t.dtype for t in ticket.values() if t.is_floating_point()} == {torch.float32}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["nnz"] == round(0.2 * summary["maskable"])
    losses = [row["loss"] for row in last_state(tmp_path)["history"]]
    assert losses[-1] < losses[0]


def test_fp16_needs_a_gpu_and_says_so(tmp_path):
    status, _, err = main(tmp_path, *RUN, "--mixed-precision", "fp16")
    assert status == 2
    assert err.count("\n") == 1
    assert "bf16" in err


def test_compiling_leaves_no_trace_in_names(tmp_path):
    """Traced, but run by torch's own kernels, so that no compiler is needed and the results are the same.

    The smaller last batch of an epoch is not compiled for.
    """
    compile_in_place, compiled_for, aot_eager = nn.Module.compile, [], lookup_backend("aot_eager")

    def counted(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled_for.append(max(len(tensor) for tensor in inputs if tensor.dim() == 4 and tensor.shape[-1] == 32))
        return aot_eager(graph, inputs)

    def traced(module: nn.Module, **how: object) -> None:
        compile_in_place(module, backend=counted, **how)

    options = (*SPARSE, *SUP_TICKETS, "--model", "norm", "--method", "rigl")
    with mock.patch.object(nn.Module, "compile", traced):
        assert main(tmp_path / "compiled", *options, "--compile", stop=15)[0] == 143
        assert main(tmp_path / "compiled", *options, "--compile", "--resume", "auto")[0] == 0
    assert set(compiled_for) == {16}
    assert main(tmp_path / "plain", *options)[0] == 0
    compiled, plain = outcome(tmp_path / "compiled"), outcome(tmp_path / "plain")
    for part in ("model", "masking", "superposition"):
        assert names(compiled["state"][part]) == names(plain["state"][part])
    assert names(compiled["tickets"]) == names(plain["tickets"])
    assert differences(compiled["tickets"], plain["tickets"]) == []


def names(value: object) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [f"{key}/{name}" for key, item in value.items() for name in ("", *names(item))]
