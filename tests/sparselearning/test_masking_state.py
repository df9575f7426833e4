"""A saved Masking goes on to the same bits, and the state of another run is refused whole."""

from typing import Any

import pytest

from sparselearning import Masking, UsageError
from tests.exact import bits, through_a_file
from tests.misuse import every
from tests.networks import layers, network, sgd, train, training

RUNS: list[tuple[str, dict[str, Any]]] = [
    ("static", {}), ("set", {}), ("rigl", {}), ("rigl", {"growth": "momentum"}),
    ("rigl", {"prune_rate_decay": "cosine", "total_steps": 18}), ("granet", {"prune_end": 12}),
    ("gmp", {"prune_end": 12}), ("snfs", {}), ("dsr", {}), ("pf", {"prune_end": 6}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options"), RUNS)
@pytest.mark.parametrize(("stop", "due"), [(7, None), (7, "smallest"), (3, "largest")])
def test_a_resumed_run_is_the_same_run(method: str, options: dict[str, Any], stop: int, due: str | None) -> None:
    """With an exploration that is due at the next step, too."""
    whole, resumed = (training(method, steps=0, update_frequency=3, **options) for _ in range(2))
    train(whole.model, whole.optimizer, range(stop))
    if due is not None:
        whole.masking.explore(0.5, drop="smallest" if method == "dsr" else due)
    states = through_a_file([part.state_dict() for part in whole])
    train(whole.model, whole.optimizer, range(stop, 16))
    for part, state in zip(resumed, states, strict=True):
        part.load_state_dict(state)
    train(resumed.model, resumed.optimizer, range(stop, 16))
    assert [bits(part.state_dict()) for part in resumed] == [bits(part.state_dict()) for part in whole]
    assert whole.masking.updates >= (0 if method == "static" else 1) + (due is not None)


OTHER_RUNS: dict[str, tuple[dict[str, Any]]] = {
    "density": ({"density": 0.1},),
    "layers": ({"exempt": ["4.*"]},),
    "growth": ({"growth": "momentum"},),
    "method": ({"method": "set"},),
    "gradual method": ({"method": "granet", "init_density": 0.2, "prune_end": 9},),
}


@every(OTHER_RUNS, "options")
def test_a_state_of_another_run_is_refused_and_changes_nothing(options: dict[str, Any]) -> None:
    model, other = network(), network(1)
    masking = Masking(model, sgd(model), "rigl", 0.2)
    optimizer = sgd(other)
    stranger = Masking(
        other, optimizer, **({"method": "rigl", "density": 0.2, "seed": 1, "update_frequency": 1} | options)
    )
    train(other, optimizer, range(3))

    def everything() -> tuple[Any, ...]:
        tensors = masking.masks, masking.ever_active, masking.weights
        return *map(bits, tensors), masking.step, masking.active

    before = everything()
    with pytest.raises(UsageError):
        masking.load_state_dict(stranger.state_dict())
    assert everything() == before


def test_a_state_of_other_shapes_is_refused() -> None:
    model, other = layers((4, 6)), layers((6, 4))
    masking = Masking(model, sgd(model), "rigl", 0.5)
    with pytest.raises(UsageError, match="another model"):
        masking.load_state_dict(Masking(other, sgd(other), "rigl", 0.5).state_dict())
