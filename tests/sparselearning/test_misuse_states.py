"""A state that is incomplete, tampered with or another's is refused whole: nothing of it is taken."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparselearning import Superposition, take_ticket
from tests.exact import bits, check_sparse
from tests.misuse import every, inf, nan, refused
from tests.networks import NNZ, Parts, network, train, training

State = dict[str, Any]
GRANET: dict[str, Any] = {"method": "granet", "prune_end": 8}


# ---- of a masking ----------------------------------------------------------------------------------------------------

NO_STATE: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "None": (lambda parts: None, "state"),
    "empty": (lambda parts: {}, "state"),
    "a list": (lambda parts: [], "state"),
    "a file": (lambda parts: "checkpoint.pt", "state"),
    "a masking": (lambda parts: parts.masking, "state"),
    "masks": (lambda parts: parts.masking.masks, "state"),
    "the model's state": (lambda parts: parts.model.state_dict(), "state"),
    "the optimizer's state": (lambda parts: parts.optimizer.state_dict(), "state"),
    "a checkpoint of all": (lambda parts: {"masking": parts.masking.state_dict(), "epoch": 3}, "state"),
    "a superposition's state": (lambda parts: Superposition(["0.weight"], 3).state_dict(), "not of RigL"),
    "of another density": (lambda parts: training(density=0.1).masking.state_dict(), "65"),
    "of another method": (lambda parts: training("set").masking.state_dict(), "SET"),
    "of fewer layers": (lambda parts: training(exempt=["0.*"]).masking.state_dict(), "4.weight|another|weights"),
    "of another growth": (lambda parts: training(growth="momentum").masking.state_dict(), "momentum|growth"),
}

KEYS = (
    "method", "target", "exploration", "masks", "explored", "dense_momentum", "step", "updates", "dropped", "grown",
    "window", "threshold",
)  # fmt: skip


def put(key: str, *values: Any, match: str = "") -> dict[str, tuple[Callable[[State], Any], str]]:
    """Rows of the table: a part of the state, and values that it cannot have."""
    return {f"{key}={value!r:.40}": (lambda s, v=value: s.update({key: v}), match or key) for value in values}


def mask(change: Callable[[torch.Tensor], Any], part: str = "masks") -> Callable[[State], Any]:
    return lambda state: state[part].update({"4.weight": change(state[part]["4.weight"])})


def open_one(mask: torch.Tensor) -> torch.Tensor:
    mask.view(-1)[(~mask).view(-1).nonzero()[0]] = True
    return mask


def close_one(mask: torch.Tensor) -> torch.Tensor:
    mask.view(-1)[mask.view(-1).nonzero()[0]] = False
    return mask


def move_all_to_the_head(state: State) -> None:
    """The right number, but a layer without any."""
    state["masks"]["0.weight"].zero_()
    head = state["masks"]["4.weight"].zero_().view(-1)
    head[:NNZ] = True


TAMPERED: dict[str, tuple[Callable[[State], Any], str]] = {
    **{f"without {key}": (lambda s, k=key: s.pop(k), key) for key in KEYS},
    **put("step", -1, 2.5, nan, inf, "5", None, True, [3]),
    **put("updates", -1, 0.5, nan, "1", None),
    **put("dropped", -1, nan, "1", None),
    **put("grown", -1, nan, "1", None),
    **put("window", None, 5, (0,)),
    **put("window", (5, 2), (0, nan), (0, 2.5), match="end of a phase"),
    **put("window", ("0", None), (0.5, None), (-1, None), (None, None), match="first step of a phase"),
    **put("exploration", 0.5, (), (0.5,), (1.5, "gradient", "smallest"), ("0.5", "gradient", "smallest")),
    **put("exploration", (0.5, "up", "smallest"), match="growth 'up'"),
    **put("exploration", (0.5, "gradient", "least"), match="drop 'least'"),
    **put("exploration", (nan, "gradient", "smallest")),
    **put("exploration", (0.5, "momentum", "smallest"), match="momentum"),
    **put("threshold", 0.5, nan, "0.001"),
    **put("masks", None, {}, [], torch.ones(3)),
    **put("explored", None, {}, []),
    **put("dense_momentum", None, [], {"4.weight": torch.zeros(10, 54)}),
    **put("target", None, "130", 129, match="130|target"),
    **put("method", None, "rigl", 3, match="RigL|method"),
    "a connection more": (mask(open_one), "131|130|connections"),
    "a connection less": (mask(close_one), "129|130|connections"),
    "all connections": (mask(torch.ones_like), "130|connections"),
    "no connection": (mask(torch.zeros_like), "4.weight|130|connections"),
    "a layer without any": (move_all_to_the_head, "0.weight"),
    "a layer less": (lambda state: state["masks"].pop("4.weight"), "4.weight|masks"),
    "a layer more": (lambda state: state["masks"].update({"5.weight": torch.ones(2) > 0}), "5.weight|masks"),
    "another shape": (mask(lambda m: m.T), "4.weight|masks"),
    "None for a mask": (mask(lambda m: None), "4.weight|masks"),
    "a list for a mask": (mask(lambda m: m.tolist()), "4.weight|masks"),
    "numbers for a mask": (mask(lambda m: m.float() / 2), "4.weight|masks"),
    "NaN for a mask": (mask(lambda m: m.float() * nan), "4.weight|masks"),
    "a mask on the meta device": (mask(lambda m: m.to("meta")), "4.weight|masks|meta"),
    "numbers for what was explored": (mask(lambda m: m.float(), "explored"), "explored"),
}  # fmt: skip


def check_untouched(parts: Parts, load: Callable[[], Any], match: str) -> None:
    masking = parts.masking
    before = [bits(part) for part in (masking.masks, masking.ever_active, parts.model.state_dict(), masking.active)]
    numbers = (masking.step, masking.updates, masking.dropped, masking.grown, masking.window, masking.threshold)
    refused(load, match)
    after = [bits(part) for part in (masking.masks, masking.ever_active, parts.model.state_dict(), masking.active)]
    assert after == before
    assert numbers == (
        masking.step, masking.updates, masking.dropped, masking.grown, masking.window, masking.threshold
    )  # fmt: skip
    train(parts.model, parts.optimizer, range(3))
    check_sparse(masking)


@every(NO_STATE, "make", "match")
def test_what_is_no_state_of_this_masking_is_refused(make: Callable[[Parts], Any], match: str) -> None:
    parts = training(steps=5)
    state = make(parts)
    check_untouched(parts, lambda: parts.masking.load_state_dict(state), match)


@every(TAMPERED, "change", "match")
def test_a_state_that_was_tampered_with_is_refused(change: Callable[[State], Any], match: str) -> None:
    parts = training(steps=5)
    state = copy.deepcopy(parts.masking.state_dict())
    change(state)
    check_untouched(parts, lambda: parts.masking.load_state_dict(state), match)


@pytest.mark.parametrize("threshold", [None, nan, -1.0, "0.001"])
def test_a_threshold_that_is_none_is_refused(threshold: Any) -> None:
    parts = training("dsr", steps=5)
    state = copy.deepcopy(parts.masking.state_dict()) | {"threshold": threshold}
    check_untouched(parts, lambda: parts.masking.load_state_dict(state), "threshold")


@pytest.mark.parametrize(("change", "match"), [(torch.ones_like, "connections"), (torch.zeros_like, "4.weight|conn")])
def test_a_density_that_gradual_pruning_never_has_is_refused(change: Callable[[Any], Any], match: str) -> None:
    parts = training("granet", prune_end=4, steps=5)
    state = copy.deepcopy(parts.masking.state_dict())
    mask(change)(state)
    check_untouched(parts, lambda: parts.masking.load_state_dict(state), match)


def test_a_state_from_the_middle_of_gradual_pruning_is_taken() -> None:
    begun, fresh = training("granet", prune_end=8, steps=4), training("granet", prune_end=8, steps=0)
    fresh.model.load_state_dict(begun.model.state_dict())
    fresh.masking.load_state_dict(begun.masking.state_dict())
    train(fresh.model, fresh.optimizer, range(6))
    check_sparse(fresh.masking)


def test_a_state_without_its_model_is_refused_at_the_next_step() -> None:
    parts = training(steps=5)
    parts.masking.load_state_dict(training(seed=1, steps=5).masking.state_dict())
    refused(lambda: train(parts.model, parts.optimizer, range(1)), "load the model's state dict too")


def test_a_state_of_another_seed_is_taken_with_its_model() -> None:
    parts, other = training("set", steps=5), training("set", seed=1, steps=5)
    parts.masking.load_state_dict(other.masking.state_dict())
    parts.model.load_state_dict(other.model.state_dict())
    assert bits(parts.masking.masks) == bits(other.masking.masks)
    train(parts.model, parts.optimizer, range(5))
    check_sparse(parts.masking)


# ---- of a superposition ----------------------------------------------------------------------------------------------

NAMES = ["0.weight", "4.weight"]


def superposition(method: str = "caa", taken: int = 2) -> Superposition:
    made = Superposition(NAMES, NNZ, method)
    for seed in range(taken):
        parts = training(seed=seed)
        made.add(take_ticket(parts.model.state_dict(), parts.masking.masks))
    return made


AVERAGES: dict[str, tuple[Callable[[State], Any], str]] = {
    **{f"without {key}": (lambda s, k=key: s.pop(k), key) for key in superposition(taken=0).state_dict()},
    **put("tickets", -1, 0, 2.5, nan, "2", None, True),
    **put("average", None, {}, []),
    **put("activations", None, {}, []),
    **put("count", 129, None, "130"),
    **put("method", "cia", None, "CAA"),
    **put("beta", 0.5, None, nan),
    **put("names", None, ["4.weight"], []),
    "a layer less": (lambda state: state["average"].pop("4.weight"), "4.weight|average"),
    "another shape": (lambda state: state["average"].update({"4.weight": torch.ones(54, 10)}), "4.weight|average"),
    "None for a weight": (lambda state: state["average"].update({"4.weight": None}), "4.weight|average"),
    "integers": (lambda s: s["average"].update({"4.weight": s["average"]["4.weight"].long()}), "4.weight|average"),
    "numbers for activations": (lambda s: s["activations"].update({"4.weight": torch.ones(10, 54)}), "activations"),
}  # fmt: skip


@every(AVERAGES, "change", "match")
def test_a_state_of_a_superposition_that_was_tampered_with_is_refused(
    change: Callable[[State], Any], match: str
) -> None:
    state = copy.deepcopy(superposition().state_dict())
    change(state)
    fresh = superposition(taken=1)
    before = bits(fresh.average), bits(fresh.activations)
    refused(lambda: fresh.load_state_dict(state, network().state_dict()), f"{match}|the saved average is")
    assert (bits(fresh.average), bits(fresh.activations), fresh.tickets) == (*before, 1)


@pytest.mark.parametrize("state", [None, [], "average.pt", 3], ids=str)
def test_what_is_no_state_of_a_superposition_is_refused(state: Any) -> None:
    refused(lambda: superposition(taken=0).load_state_dict(state, network().state_dict()), "state")


@pytest.mark.parametrize("like", [None, network(), [], {}], ids=["None", "a model", "a list", "nothing"])
def test_a_superposition_is_restored_for_a_state_dict(like: Any) -> None:
    refused(lambda: superposition(taken=0).load_state_dict(superposition().state_dict(), like), "like|model|state")
