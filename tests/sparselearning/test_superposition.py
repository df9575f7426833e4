"""Superposed tickets are the averages of the paper, pruned to the integer, and training never notices."""

import io
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning import Masking, Superposition, UsageError, take_ticket
from sparselearning.averages import AVERAGES

every_method = pytest.mark.parametrize("method", AVERAGES)


def ticket(weights: list[float], bias: float, counter: int) -> dict[str, Tensor]:
    return {"w": torch.tensor(weights).float(), "b": torch.tensor([bias]).float(), "n": torch.tensor(counter)}


def bits(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in tensors.items()}


# connection 0 is in all three tickets, the others in one each
TICKETS = [ticket([3, 2, 0, 0], 1, 10), ticket([3, 0, -9, 0], 4, 20), ticket([6, 0, 0, 5], 10, 30)]


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
def test_a_larger_beta_favours_early_tickets(beta: float, weights: list[float]) -> None:
    superposition = Superposition(["w"], 1, "cima", beta=beta)
    for weight in (1.0, 2.0, 7.0):  # β²·1 + β(1 - β)·2 + (1 - β)·7
        superposition.add({"w": torch.tensor([weight])})
    assert superposition.ticket()["w"].tolist() == pytest.approx(weights)


@every_method
@pytest.mark.parametrize("written", ["ticket taken", "ticket superposed"])
def test_writing_into_a_ticket_changes_no_superposition(method: str, written: str) -> None:
    superposition = Superposition(["w"], 2, method)
    taken = take_ticket(TICKETS[0], {})
    superposition.add(taken)
    before = bits(superposition.ticket())
    for tensor in (taken if written == "ticket taken" else superposition.ticket()).values():
        tensor.fill_(7)
    assert bits(superposition.ticket()) == before


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


# ---- with a network --------------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )  # 216 + 80 maskable weights


def sparse_training(method: str = "rigl") -> tuple[nn.Module, torch.optim.Optimizer, Masking]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, Masking(model, optimizer, method, 0.2)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        rng = torch.Generator().manual_seed(step)
        x, y = torch.randn(8, 3, 6, 6, generator=rng), torch.randint(10, (8,), generator=rng)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


@every_method
def test_superposing_one_ticket_is_the_identity(method: str) -> None:
    model, optimizer, masking = sparse_training()
    train(model, optimizer, range(3))
    superposition = Superposition(masking.masks, masking.target_nnz, method)
    superposition.add(take_ticket(model.state_dict(), masking.masks))
    assert bits(superposition.ticket()) == bits(model.state_dict())


@every_method
def test_training_goes_on_as_if_no_ticket_had_been_taken(method: str) -> None:
    ends = []
    for with_tickets in (False, True):
        model, optimizer, masking = sparse_training()
        superposition = Superposition(masking.masks, masking.target_nnz, method)
        for cycle in range(3):
            masking.explore(0.5)
            train(model, optimizer, range(4 * cycle, 4 * cycle + 4))
            if with_tickets:
                before = bits(model.state_dict())
                taken = take_ticket(model.state_dict(), masking.masks)
                superposition.add(taken)
                superposed = superposition.ticket()
                for tensor in (*taken.values(), *superposed.values()):
                    tensor.fill_(7)  # copies, all of them
                assert bits(model.state_dict()) == before
        momentum = {str(i): optimizer.state[w]["momentum_buffer"] for i, w in enumerate(model.parameters())}
        ends.append((bits(model.state_dict()), bits(masking.masks), bits(momentum)))
    assert ends[0] == ends[1]


def test_a_ticket_of_three_cycles_has_its_batch_norm_averaged_and_counted() -> None:
    model, optimizer, masking = sparse_training()
    superposition = Superposition(masking.masks, masking.target_nnz, "cia")
    means = []
    for cycle in range(3):
        train(model, optimizer, range(4 * cycle, 4 * cycle + 4))
        superposition.add(take_ticket(model.state_dict(), masking.masks))
        means.append(model[1].running_mean.clone())
    superposed = superposition.ticket()
    torch.testing.assert_close(superposed["1.running_mean"], sum(means) / 3)
    assert (superposed["1.num_batches_tracked"].dtype, superposed["1.num_batches_tracked"].item()) == (torch.int64, 12)
    fresh = network()
    fresh.load_state_dict(superposed)
    assert sum(int(fresh.get_parameter(name).count_nonzero()) for name in masking.masks) == round(0.2 * 296)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@every_method
def test_connections_that_are_zero_stay_connections(method: str, dtype: torch.dtype) -> None:
    """Grown, never reached by a gradient: the ticket keeps them, too small to matter."""
    state = {"w": torch.tensor([0.0, 5.0, 0.0, 0.0, -1.0], dtype=dtype)}
    masks = {"w": torch.tensor([False, True, False, True, True])}
    before = bits({"w": state["w"].double()})
    taken = take_ticket(state, masks)
    assert bits({"w": state["w"].double()}) == before
    assert (taken["w"] != 0).tolist() == masks["w"].tolist()
    assert 0 < taken["w"][3] < 1e-29
    superposition = Superposition(["w"], 3, method)
    superposition.add(taken)
    assert torch.equal(superposition.ticket()["w"], taken["w"])


def test_connection_aware_averaging_counts_connections_that_are_zero() -> None:
    superposition = Superposition(["w"], 1, "caa")
    for weight, active in ((0.0, True), (6.0, True), (0.0, False)):
        superposition.add(take_ticket({"w": torch.tensor([weight, 0.0])}, {"w": torch.tensor([active, False])}))
    assert superposition.ticket()["w"].tolist() == pytest.approx([3.0, 0.0])  # active twice


@every_method
@pytest.mark.parametrize("prune", ["every", "last"])
def test_tied_weights_stay_tied_in_tickets_and_their_superposition(method: str, prune: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight

    model = Tied()
    masking = Masking(model, torch.optim.SGD(model.parameters(), lr=0.1), "set", 0.5)
    superposition = Superposition(masking.masks, masking.target_nnz, method, prune=prune)
    for _ in range(3):
        masking.update_topology(0.5, "random")
        model.first.weight.data = torch.randn(6, 6) * masking.masks["first.weight"]
        model.second.weight = model.first.weight
        ticket = take_ticket(model.state_dict(), masking.masks)
        assert ticket["first.weight"] is ticket["second.weight"]
        superposition.add(ticket)
    superposed = superposition.ticket()
    assert superposed["first.weight"] is superposed["second.weight"]
    assert int(superposed["second.weight"].count_nonzero()) == masking.target_nnz == 18
    model.load_state_dict(superposed)
    assert model.second.weight.tolist() == superposed["first.weight"].tolist()


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


# ---- state and mistakes ----------------------------------------------------------------------------------------------


@every_method
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_saved_superposition_goes_on_as_the_same(method: str, taken: int) -> None:
    whole = Superposition(["w"], 2, method)
    for new in TICKETS[:taken]:
        whole.add(new)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = Superposition(["w"], 2, method)
    resumed.load_state_dict(torch.load(file, weights_only=True), TICKETS[0])
    for new in TICKETS[taken:]:
        whole.add(new)
        resumed.add(new)
    assert resumed.tickets == 3
    assert bits(resumed.ticket()) == bits(whole.ticket())


@pytest.mark.parametrize(
    "like",
    [
        {"w": torch.zeros(5), "b": torch.zeros(1), "n": torch.tensor(0)},
        {"w": torch.zeros(4), "b": torch.zeros(1)},
        {"w": torch.zeros(4), "b": torch.zeros(1), "n": torch.tensor(0), "more": torch.zeros(1)},
    ],
    ids=["shape", "superfluous", "missing"],
)
def test_a_superposition_of_another_model_is_refused(like: dict[str, Tensor]) -> None:
    saved = Superposition(["w"], 2)
    saved.add(TICKETS[0])
    superposition = Superposition(["w"], 2)
    with pytest.raises(UsageError, match="the saved average is"):
        superposition.load_state_dict(saved.state_dict(), like)
    assert superposition.tickets == 0


def test_a_superposition_by_another_average_is_refused() -> None:
    saved = Superposition(["w"], 2, "cia")
    for new in TICKETS[:2]:
        saved.add(new)
    with pytest.raises(UsageError):
        Superposition(["w"], 2, "caa").load_state_dict(saved.state_dict(), TICKETS[0])


@pytest.mark.parametrize(
    ("method", "beta", "message"),
    [
        ("CIA", 0.8, "'CIA' is unknown: choose one of cia, caa, cima"),
        ("cima", 1.0, r"cima_beta 1 is not in \[0, 1\)"),
        ("cima", -0.1, r"cima_beta -0\.1 is not in"),
    ],
)
def test_mistakes_are_refused(method: str, beta: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Superposition(["w"], 1, method, beta=beta)
