"""How much memory masks, topology updates and superpositions take, in copies of the weights, counted to the byte."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from models import build
from sparselearning import Masking, Superposition, selection, take_ticket
from sparselearning.superposition import Ticket
from tests.allocated import Memory, bytes_of, memory_of

MASKS = 2 / 4  # of a copy: connections, and those there ever were, a byte of each for the four of a weight
REST = 0.01  # of a copy: norm parameters, counters, what is counted
PIECE = selection._PIECE // 16  # as small beside this network as the real one beside a whole VGG-16


class Training:
    """Of a VGG-16 a quarter as wide, by random gradients; memory is in copies of its weights."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = build("vgg16", 10, 0.25).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
        self.copy = bytes_of(self.model.parameters())
        self.layer = max(bytes_of([weight]) for weight in self.model.parameters()) / self.copy

    def build_masking(self) -> Memory:
        def work() -> None:
            self.masking = Masking(self.model, self.optimizer, "rigl", 0.1, update_frequency=4)

        return memory_of(work, self.copy)

    def step(self) -> Memory:
        """Of an optimizer step; the gradients are there before it and after it."""
        for parameter in self.model.parameters():
            parameter.grad = torch.randn_like(parameter)
        return memory_of(self.optimizer.step, self.copy)

    def take(self, superposition: Superposition) -> tuple[Memory, Memory]:
        """Of a ticket, and of averaging it in."""
        taken: list[Ticket] = []
        state, masks = self.model.state_dict(), self.masking.masks
        ticket = memory_of(lambda: taken.append(take_ticket(state, masks)), self.copy)
        return ticket, memory_of(lambda: superposition.add(taken[0]), self.copy)


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_PIECE", PIECE)
        yield


@pytest.fixture
def training() -> Training:
    training = Training()
    training.build_masking()
    training.step()
    return training


def test_a_masking_holds_two_masks_and_until_training_starts_the_weights_it_cleared() -> None:
    dense, sparse = Training(), Training()
    built = sparse.build_masking()
    assert built.left == pytest.approx(1 + MASKS, abs=REST)
    assert built.peak <= built.left + sparse.layer + REST
    first, sparse_first = dense.step(), sparse.step()  # in which momentum begins
    assert built.left + sparse_first.left - first.left == pytest.approx(MASKS, abs=REST)


def test_a_masked_step_takes_no_more_than_a_dense_one(training: Training) -> None:
    dense = Training()
    dense.step()
    expected, found = dense.step(), training.step()
    assert found.left == 0 and 0 < found.peak <= expected.peak + REST


def test_a_topology_update_takes_at_most_two_copies_one_of_them_the_dense_gradient_and_leaves_nothing(
    training: Training,
) -> None:
    training.step(), training.step()
    update = training.step()
    assert training.masking.updates == 1 and training.masking.grown > 0
    assert 1 < update.peak <= 2 and update.left == 0


def test_an_exploration_takes_at_most_one_copy_and_leaves_nothing(training: Training) -> None:
    training.masking.begin_phase(1, None, updates=False)
    training.masking.explore(0.5)
    explored = training.step()
    assert training.masking.updates == 1 and training.masking.grown > 0
    assert MASKS < explored.peak <= 1 and explored.left == 0


def test_a_superposition_holds_one_copy_however_many_tickets_it_has(training: Training) -> None:
    superposition = Superposition(training.masking.masks, training.masking.nnz)
    added = []
    for _ in range(3):
        ticket, more = training.take(superposition)
        assert ticket.left == pytest.approx(1, abs=REST) and ticket.peak <= 1 + training.layer
        added.append(more)
        training.step()
    assert [more.left for more in added] == [pytest.approx(1, abs=REST), 0, 0]
    assert all(more.peak <= 2.4 for more in added)
    assert superposition.tickets == 3
