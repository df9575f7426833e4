"""Superposed tickets are the averages of the paper, pruned to the integer."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparselearning import Superposition, take_ticket
from sparselearning.averages import AVERAGES
from tests.exact import bits
from tests.tickets import TICKETS, every_method


@pytest.mark.parametrize(
    ("method", "after_two", "after_three", "bias"),
    [
        ("cia", [3, 0, -4.5, 0], [4, 0, -3, 0], 5),  # of 4, 2/3, -3, 5/3
        ("caa", [3, 0, -9, 0], [0, 0, -9, 5], 5),  # of 4, 2, -9, 5; N(k, j) = 3, 1, 1, 1
        ("cima", [3, 0, -1.8, 0], [3.6, 0, -1.44, 0], 3.28),  # of 3.6, 1.28, -1.44, 1
    ],
)
def test_three_tickets_by_hand(method: str, after_two: list[float], after_three: list[float], bias: float) -> None:
    superposition = Superposition(["w"], 2, method, beta=0.8)
    for new in TICKETS[:2]:
        superposition.add(new)
    assert superposition.ticket()["w"].tolist() == pytest.approx(after_two)
    superposition.add(TICKETS[2])
    assert superposition.ticket()["w"].tolist() == pytest.approx(after_three)
    assert superposition.ticket()["b"].tolist() == pytest.approx([bias])
    counter = superposition.ticket()["n"]
    assert (counter.dtype, counter.item()) == (torch.int64, 30)


@pytest.mark.parametrize(
    ("prune", "after_two", "after_three"),
    [
        ("every", [5.0, 0.0], [0.0, 11 / 3]),  # line 11 of Algorithm 1: of (2·5 + 0) / 3, (2·0 + 11) / 3
        ("last", [5.0, 0.0], [0.0, 19 / 3]),  # of the mean: (5 + 5 + 0) / 3, (4 + 4 + 11) / 3
    ],
)
def test_the_next_average_goes_on_from_the_pruned_one_or_from_the_mean(
    prune: str, after_two: list[float], after_three: list[float]
) -> None:
    superposition = Superposition(["w"], 1, "cia", prune=prune)
    for weights in ([5.0, 4.0], [5.0, 4.0]):
        superposition.add({"w": torch.tensor(weights)})
    assert superposition.ticket()["w"].tolist() == after_two
    superposition.add({"w": torch.tensor([0.0, 11.0])})
    assert superposition.ticket()["w"].tolist() == pytest.approx(after_three)


@pytest.mark.parametrize(("beta", "weights"), [(0.0, [7.0]), (0.1, [6.49]), (0.5, [4.25]), (0.9, [1.69])])
def test_a_larger_beta_favors_early_tickets(beta: float, weights: list[float]) -> None:
    superposition = Superposition(["w"], 1, "cima", beta=beta)
    for weight in (1.0, 2.0, 7.0):  # β²·1 + β(1 - β)·2 + (1 - β)·7
        superposition.add({"w": torch.tensor([weight])})
    assert superposition.ticket()["w"].tolist() == pytest.approx(weights)


def norm(mean: float, deviation: float) -> dict[str, Tensor]:
    """The state of a batch norm that has seen values of this mean and standard deviation."""
    module = nn.BatchNorm1d(1)
    with torch.no_grad():
        module.running_mean.fill_(mean)
        module.running_var.fill_(deviation**2)
    return dict(module.state_dict())


@pytest.mark.parametrize(
    ("method", "mean", "variance"),
    [("cia", 3.0, 14.0), ("caa", 3.0, 14.0), ("cima", 2.16, 8.68)],  # 0.64·(1, 1), 0.16·(2, 4) and 0.2·(6, 37)
)
def test_the_variance_is_averaged_and_not_the_standard_deviation(method: str, mean: float, variance: float) -> None:
    """Standard deviations 1, 2 and √37 have a mean of 3.03, whose square is 9.2."""
    superposition = Superposition([], 0, method)
    for one, deviation in ((1.0, 1.0), (2.0, 2.0), (6.0, 37**0.5)):
        superposition.add(norm(one, deviation))
    ticket = superposition.ticket()
    assert ticket["running_mean"].item() == pytest.approx(mean)
    assert ticket["running_var"].item() == pytest.approx(variance)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_pruning_is_global_exact_and_empties_no_layer(data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(list(AVERAGES)))
    sizes = data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    names = [f"layer {i}" for i in range(len(sizes))]
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    value = st.sampled_from([0.0, 0.0, 1.0, -1.0, 2.0, 0.25])
    superposition = Superposition(names, count, method, beta=0.5, prune="last")
    tickets = []
    for _ in range(data.draw(st.integers(1, 4))):
        weights = [data.draw(st.lists(value, min_size=size, max_size=size)) for size in sizes]
        tickets.append(weights)
        superposition.add({name: torch.tensor(w) for name, w in zip(names, weights, strict=True)})

    def average(values: list[float]) -> float:
        if method == "cima":
            mean = values[0]
            for new in values[1:]:
                mean = 0.5 * mean + 0.5 * new
            return mean
        return sum(values) / (len(values) if method == "cia" else max(1, sum(v != 0 for v in values)))

    means = [[average([t[i][j] for t in tickets]) for j in range(size)] for i, size in enumerate(sizes)]
    superposed = superposition.ticket()
    kept = {(i, j) for i, name in enumerate(names) for j in superposed[name].nonzero().flatten().tolist()}
    assert len(kept) == count
    assert {i for i, _ in kept} == set(range(len(sizes)))
    for i, j in kept:
        assert superposed[names[i]][j].item() == pytest.approx(means[i][j], rel=1e-5, abs=1e-30)
    best = {(i, max(range(size), key=lambda j, i=i: abs(means[i][j]))) for i, size in enumerate(sizes)}
    assert best <= kept or method != "cima"  # (equal means may round apart in the other two)
    least = min((abs(means[i][j]) for i, j in kept - best), default=float("inf"))
    left_out = [(i, j) for i, size in enumerate(sizes) for j in range(size) if (i, j) not in kept]
    assert all(abs(means[i][j]) <= least + 1e-5 for i, j in left_out)


def test_ties_go_to_the_first_layer_and_position() -> None:
    superposition = Superposition(["a", "b"], 4, "cia")
    superposition.add({"a": torch.ones(2, 2), "b": -torch.ones(3)})
    superposed = superposition.ticket()
    assert (superposed["a"].tolist(), superposed["b"].tolist()) == ([[1, 1], [1, 0]], [-1, 0, 0])


def test_weights_that_cancel_leave_the_count_exact() -> None:
    superposition = Superposition(["w"], 2, "cia")
    for sign in (1.0, -1.0):
        superposition.add({"w": torch.tensor([sign, 2 * sign, 0.0, 0.0])})
    assert superposition.ticket()["w"].count_nonzero() == 2


@every_method
def test_a_dense_model_is_averaged_without_pruning(method: str) -> None:
    superposition = Superposition((), 0, method, beta=0.5)
    for weight in (1.0, 3.0):
        superposition.add(take_ticket({"w": torch.tensor([weight, 0.0])}, {}))
    assert superposition.ticket()["w"].tolist() == [2.0, 0.0]


@every_method
def test_memory_format_of_the_model_does_not_matter(method: str) -> None:
    def superpose(change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        superposition = Superposition(["w"], 20, method)
        for seed in range(3):
            rng = torch.Generator().manual_seed(seed)
            weight = torch.randn(4, 3, 3, 3, generator=rng).round()
            superposition.add(take_ticket({"w": change(weight)}, {"w": change(weight) != 0}))
        return superposition.ticket()

    assert bits(superpose(lambda w: w)) == bits(superpose(lambda w: w.to(memory_format=torch.channels_last)))
