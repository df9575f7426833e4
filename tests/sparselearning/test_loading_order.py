"""A saved run goes on to the same bits, in whatever order model, optimizer and masking are built and loaded."""

import copy
import itertools
from typing import Any

import pytest

from sparselearning import Masking, UsageError, take_ticket
from tests.exact import bits, through_a_file
from tests.networks import network, sgd, train

State = dict[str, Any]
PARTS = ("masking built", "model", "optimizer", "masking")
ORDERS = [order for order in itertools.permutations(PARTS) if order.index("masking built") < order.index("masking")]


class Training:
    def __init__(self, seed: int, method: str = "rigl") -> None:
        self.method = method
        self.model = network(seed)
        self.optimizer = sgd(self.model)
        self.masking: Masking

    def build(self) -> None:
        options = {"prune_end": 8} if self.method == "granet" else {}
        self.masking = Masking(self.model, self.optimizer, self.method, 0.2, update_frequency=3, seed=5, **options)

    def load(self, part: str, state: State) -> None:
        self.build() if part == "masking built" else getattr(self, part).load_state_dict(state[part])

    def train(self, steps: range) -> None:
        train(self.model, self.optimizer, steps)

    def state(self) -> State:
        return {part: getattr(self, part).state_dict() for part in PARTS[1:]}


def saved_and_final(method: str) -> tuple[State, dict[str, bytes]]:
    run = Training(0, method)
    run.build()
    run.train(range(7))
    state = through_a_file(run.state())
    run.train(range(7, 14))
    return state, bits(run.model.state_dict())


@pytest.mark.parametrize("method", ["rigl", "set", "granet"])
def test_any_order_of_loading_gives_the_same_bits(method: str) -> None:
    state, final = saved_and_final(method)
    for order in ORDERS:
        run = Training(1, method)
        for part in order:
            run.load(part, copy.deepcopy(state))
        assert bits(run.model.state_dict()) == bits(state["model"]), order
        assert run.masking.nnz == sum(int(mask.sum()) for mask in state["masking"]["masks"].values())
        run.train(range(7, 14))
        assert bits(run.model.state_dict()) == final, order


def test_a_state_may_be_loaded_twice_before_training() -> None:
    state, final = saved_and_final("rigl")
    run = Training(0)
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.build()
    other = Training(2)
    other.build()
    run.masking.load_state_dict(other.masking.state_dict())  # of another run, by mistake
    run.masking.load_state_dict(state["masking"])
    run.train(range(7, 14))
    assert bits(run.model.state_dict()) == final


@pytest.mark.parametrize("first", ["model", "masking"])
def test_a_run_goes_back_to_a_checkpoint_in_any_order(first: str) -> None:
    run = Training(0)
    run.build()
    run.train(range(7))
    state = through_a_file(run.state())
    run.train(range(7, 14))
    final = bits(run.model.state_dict())
    for part in (first, "masking" if first == "model" else "model", "optimizer"):
        run.load(part, copy.deepcopy(state))
    run.train(range(7, 14))
    assert bits(run.model.state_dict()) == final


def test_weights_that_a_load_cannot_restore_are_an_error() -> None:
    state, _ = saved_and_final("rigl")
    run = Training(1)
    run.build()
    run.train(range(2))
    run.masking.load_state_dict(state["masking"])  # the model's own weights are those of other connections
    with pytest.raises(UsageError, match="weights that are not zero where the saved network had"):
        run.train(range(7, 8))


def test_a_dense_state_dict_without_its_masks_is_an_error_before_it_trains() -> None:
    run = Training(0)
    run.build()
    run.train(range(2))
    run.model.load_state_dict(Training(1).model.state_dict())
    before = bits(run.model.state_dict())
    with pytest.raises(UsageError, match=r"outside the masks are not zero, \d+ of them in 0\.weight"):
        run.train(range(2, 3))
    for name, weight in run.masking.weights.items():
        assert bits({name: weight})[name] == before[name]
    run.masking.sparsify_(run.model)  # the remedy
    run.optimizer.zero_grad()
    run.train(range(2, 9))
    take_ticket(run.model.state_dict(), run.masking.masks)


@pytest.mark.parametrize("when", ["before Masking", "after Masking", "after some steps"])
def test_momentum_of_a_dense_run_is_cleared_outside_the_masks(when: str) -> None:
    dense = Training(0)
    dense.train(range(3))
    run = Training(0)
    if when == "before Masking":
        run.optimizer.load_state_dict(dense.optimizer.state_dict())
    run.build()
    run.train(range(2 if when == "after some steps" else 0))
    if when != "before Masking":
        run.optimizer.load_state_dict(dense.optimizer.state_dict())
    run.train(range(2, 3))
    for name, mask in run.masking.masks.items():
        assert not run.optimizer.state[run.masking.weights[name]]["momentum_buffer"][~mask].any()
