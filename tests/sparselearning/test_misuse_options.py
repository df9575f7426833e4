"""Options that are no numbers, no names or no choices are refused in one line, before anything is touched."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparselearning import METHODS, Masking
from tests.exact import bits, check_sparse
from tests.misuse import every, inf, nan, refused
from tests.networks import NNZ, network, sgd, train

GRANET: dict[str, Any] = {"method": "granet", "prune_end": 8, "update_frequency": 2}
PF: dict[str, Any] = {"method": "pf", "prune_end": 8}


def wrong(option: str, *values: Any, match: str = "", **others: Any) -> dict[str, tuple[dict[str, Any], str]]:
    """Rows of the table: an option and each of the values that it cannot have."""
    of = f" of {others['method']}" if "method" in others else ""
    shown = {re.sub(" at 0x[0-9a-f]+", "", f"{value!r:.60}"): value for value in values}  # the same in every process
    return {f"{option}={word}{of}": (others | {option: value}, match or option) for word, value in shown.items()}


OPTIONS = {
    **wrong("method", "rigI", "RigL", "", None, 0.1, ["rigl"], METHODS["rigl"], METHODS),
    **wrong("density", 0, 0.0, 1.5, -0.1, 90, nan, inf, -inf, "0.1", None, True, [0.1, 0.2], 1e-9),
    **wrong("density", torch.tensor(0.1), 0.1 + 0j, {}, {"4.*": "0.1"}, {"4.*": nan}, {"4.*": 3}, {"4.*": None}),
    **wrong("density", {"head": 0.1}, match="head"),
    **wrong("init_density", "0.5", 0.0, 0.1, 1.01, nan, inf, True, [0.5], **GRANET),
    **wrong("init_density", "0.5", nan, 2, **PF),
    **wrong("sparse_init", "ERK", "", 0.1, True, ["erk"], torch.ones(10, 54), network()),
    **wrong("sparse_init", "snip", match="snip_batches"),
    **wrong("update_frequency", 0, -5, 2.5, nan, inf, "100", None, True, [100], torch.tensor([1, 2])),
    **wrong("prune_rate", 1.1, -0.1, 50, nan, inf, "0.5", True, [0.5]),
    **wrong("prune_rate_decay", "cosin", "", None, True, 0.1, ["cosine"], total_steps=10),
    **wrong("prune_rate_decay", "cosine", "linear", match="total_steps"),
    **wrong("growth", "gradients", "Random", True, 1, ["random"], torch.rand),
    **wrong("growth", "none", match="would empty"),
    **wrong("prune_start", -1, 8, 9, 1.5, nan, "0", None, True, **GRANET),
    **wrong("prune_end", None, 0, -8, 7.5, nan, inf, "8", True, [8], **{**GRANET, "prune_end": 8}),
    **wrong("prune_end", 1, match="prune_end|update", **{**GRANET, "update_frequency": 2}),
    **wrong("prune_end", None, 0, 2.5, **PF),
    **wrong("total_steps", 0, -1, 9.5, nan, inf, "10", True, [10]),
    **wrong("total_steps", 5, match="prune_end", **GRANET),
    **wrong("total_steps", 5, match="prune_end", **PF),
    **wrong("exempt", ["head.*"], ["4.*", "fc"], match="(head|fc).*names no"),
    **wrong("exempt", ["*"], ["0.*", "4.*"], match="no .*weights left"),
    **wrong("exempt", "*", "4.*", None, [None], [4], [network()], 4),
    **wrong("seed", None, "0", 0.5, nan, torch.Generator(), [0]),
    # what the line says
    **wrong("method", "rigI", match="method 'rigI' is unknown: choose one of static, snip, set, dsr, snfs, rigl, "),
    **wrong("growth", "gradients", match="growth 'gradients' is unknown"),
    **wrong("sparse_init", "ERK", match="sparse_init 'ERK' is unknown"),
    **wrong("sparse_init", "snip", match="give snip_batches"),
    **wrong("prune_rate_decay", "cosin", match="prune_rate_decay 'cosin' is unknown", total_steps=10),
    **wrong("density", 0.0, match=r"density 0 is not in \(0, 1\]"),
    **wrong("density", 1.5, match=r"density 1\.5 is not in"),
    **wrong("density", -0.1, match=r"density -0\.1 is not in"),
    **wrong("density", nan, match="density nan is not in"),
    **wrong("density", 0.001, match="keeps 1 of 648 weights"),
    **wrong("prune_rate", 1.1, match=r"prune_rate 1\.1 is not in"),
    **wrong("prune_rate", -0.1, match=r"prune_rate -0\.1 is not in"),
    **wrong("update_frequency", 0, match="update_frequency 0 is not"),
    **wrong("prune_end", None, match="prune_end, .* must be given", **GRANET),
    **wrong("prune_start", 8, 9, match="lie after prune_start", **GRANET),
    **wrong("init_density", 0.1, match=r"init_density 0\.1 is not between", **GRANET),
    **wrong("init_density", 1.01, match=r"init_density 1\.01 is not between", **GRANET),
    **wrong("init_density", 0.0, match="init_density 0 is not between", **GRANET),
}  # fmt: skip


@every(OPTIONS, "options", "match")
def test_a_wrong_option_is_refused_before_anything_is_touched(options: dict[str, Any], match: str) -> None:
    model = network()
    optimizer = sgd(model)
    before = bits(model.state_dict())
    refused(lambda: Masking(model, optimizer, **({"density": 0.2} | options)), match)
    assert bits(model.state_dict()) == before
    masking = Masking(model, optimizer, "set", 0.2, update_frequency=2)  # the same call put right
    train(model, optimizer, range(5))
    check_sparse(masking)


def test_swapped_method_and_density_are_refused() -> None:
    model = network()
    refused(lambda: Masking(model, sgd(model), 0.1, "rigl"), "method 0.1 is unknown")


@pytest.mark.parametrize(
    "options",
    [
        {"density": np.float32(0.2), "update_frequency": np.int64(2)},
        {"density": np.float64(0.2), "prune_rate": np.float32(0.5)},
        {"density": Fraction(1, 5), "prune_rate": 1, "total_steps": np.int32(10)},
        {"density": 0.2, "prune_rate": 0, "exempt": ()},
    ],
    ids=str,
)
def test_numbers_of_other_kinds_are_numbers(options: dict[str, Any]) -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "set", **options)
    train(model, optimizer, range(5))
    check_sparse(masking)


# ---- connections to start from ---------------------------------------------------------------------------------------


def masks(seed: int = 0) -> dict[str, Any]:
    model = network()
    return dict(Masking(model, sgd(model), "static", 0.2, seed=seed).masks)


def changed(**change: Any) -> Callable[[], dict[str, Any]]:
    """Fitting masks with the last one changed."""

    def make() -> dict[str, Any]:
        given = masks()
        given["4.weight"] = change["to"](given["4.weight"])
        return given

    return make


def one_layer_empty() -> dict[str, Tensor]:
    first, last = torch.zeros(6, 2, 3, 3), torch.zeros(10, 54)
    last.view(-1)[:NNZ] = 1
    return {"0.weight": first, "4.weight": last}


def nan_for_connections() -> dict[str, Tensor]:
    return {name: torch.where(mask, nan, 0.0) for name, mask in masks().items()}


GIVEN: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (dict, "another model"),
    "a layer less": (
        lambda: {"0.weight": masks()["0.weight"]},
        r"^the connections to start from are .* another model: .* no 4.weight$",
    ),
    "a layer more": (lambda: masks() | {"5.weight": torch.ones(2)}, "another model"),
    "other names": (lambda: {f"module.{name}": mask for name, mask in masks().items()}, "another model"),
    "a whole state dict": (lambda: network().state_dict(), "another model"),
    "another shape": (changed(to=lambda mask: mask.T), "^the connections .* another model: .* shape"),
    "a list": (lambda: list(masks().values()), "sparse_init"),
    "None for a layer": (changed(to=lambda mask: None), "4.weight|another model"),
    "a number for a layer": (changed(to=lambda mask: 0.2), "4.weight|another model"),
    "lists for a layer": (changed(to=lambda mask: mask.tolist()), "4.weight|another model"),
    "too many": (changed(to=torch.ones_like), r"^there are \d+ connections .*, but density 0\.2 means 130$"),
    "too few": (changed(to=torch.zeros_like), "connections to start from, but density 0.2 means 130"),
    "a layer without any": (one_layer_empty, "0.weight"),
    "NaN": (nan_for_connections, "there are 0 connections"),
    "on the meta device": (changed(to=lambda mask: mask.to("meta")), "4.weight|meta"),
}  # fmt: skip


@every(GIVEN, "make", "match")
def test_connections_to_start_from_that_do_not_fit_are_refused(make: Callable[[], Any], match: str) -> None:
    model, given = network(), make()
    refused(lambda: Masking(model, sgd(model), "static", 0.2, sparse_init=given), match)
