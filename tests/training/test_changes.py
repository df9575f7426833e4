"""What is told of topology updates: by hand, from masks compared one with the next."""

import torch
from torch import nn

from sparselearning import Exploration, Masking
from utils.training.changes import Changes


def train(masking: Masking, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    model(torch.randn(8, 20)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_each_update_is_counted_by_itself() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    masking = Masking(model, optimizer, method="granet", density=0.2, prune_end=6, update_frequency=2)
    changes, expected = Changes(masking), []
    for step in range(1, 10):
        if step == 8:
            masking.begin_phase(7, None, updates=False, explore=Exploration(0.5))
        before = {name: mask.clone() for name, mask in masking.masks.items()}
        nnz, dropped, grown = masking.nnz, masking.dropped, masking.grown
        train(masking, optimizer, model)
        updated = step in (2, 4, 6, 8)
        assert changes.note(step) == updated
        if updated:
            stayed = sum(int((before[name] & mask).sum()) for name, mask in masking.masks.items())
            expected.append((step, masking.dropped - dropped, masking.grown - grown, stayed / nnz))
            assert masking.nnz == nnz - expected[-1][1] + expected[-1][2]
    taken = [(step, dropped, grown, overlap.item()) for step, dropped, grown, overlap in changes.take()]
    assert taken == expected and changes.take() == []
    assert 0 < taken[0][3] < 1


def test_a_dense_network_has_none() -> None:
    changes = Changes(None)
    assert not changes.note(1) and changes.take() == []
