"""SNIP scores |w·∂L/∂w| on a copy, keeps the best of all layers and leaves no trace."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning import Masking
from sparselearning.layers import maskable_weights
from sparselearning.snip import connection_sensitivity
from tests.exact import bits
from tests.networks import NUM_WEIGHTS, batch, network


def with_dropout(share: float) -> nn.Sequential:
    model = network()
    return model.insert(3, nn.Dropout(share))


def batches(count: int = 2) -> list[tuple[Tensor, Tensor]]:
    return [batch(seed) for seed in range(count)]


def snip(model: nn.Module, density: float = 0.1, count: int = 2) -> Masking:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Masking(model, optimizer, "snip", density, snip_batches=batches(count))


def by_hand(model: nn.Module) -> dict[str, Tensor]:
    weights = maskable_weights(model)
    loss = sum(-F.log_softmax(model(x), dim=1)[range(len(y)), y].sum() for x, y in batches())
    assert isinstance(loss, Tensor)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return {name: (w * g).abs().detach() for (name, w), g in zip(weights.items(), gradients, strict=True)}


def test_the_score_is_weight_times_gradient() -> None:
    expected = by_hand(network())
    scores = connection_sensitivity(network(), list(expected), iter(batches()))
    assert list(scores) == list(expected)
    for name, score in scores.items():
        torch.testing.assert_close(score, expected[name])
        assert not score.requires_grad


def test_a_score_by_hand() -> None:
    # logits (2, 0) for class 1: softmax gives 0.8808 and 0.1192, so ∂L/∂w is (0.8808, -0.8808); times w, 1.7616 and 0
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[2.0], [0.0]])
    score = connection_sensitivity(model, ["weight"], [(torch.ones(1, 1), torch.tensor([1]))])["weight"]
    assert score.flatten().tolist() == pytest.approx([1.761594, 0.0], abs=1e-5)


@pytest.mark.parametrize("density", [0.5, 0.2, 0.05, 0.02])
def test_the_masks_are_the_largest_scores_of_all_layers(density: float) -> None:
    masking = snip(network(), density)
    scores = by_hand(network())
    count = round(density * NUM_WEIGHTS)
    assert masking.nnz == sum(int(mask.sum()) for mask in masking.masks.values()) == count
    threshold = torch.cat([score.flatten() for score in scores.values()]).sort(descending=True).values[count - 1]
    for name, mask in masking.masks.items():
        near = (scores[name] - threshold).abs() < 1e-6  # where two ways to sum may disagree
        assert ((mask == (scores[name] >= threshold)) | near).all()


def test_the_model_stays_what_it_was() -> None:
    model = network().eval()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    before = bits(model.state_dict())
    connection_sensitivity(model, ["0.weight", "4.weight"], batches())
    assert bits(model.state_dict()) == before
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(p.grad, torch.full_like(p, 3.0)) for p in model.parameters() if p.grad is not None)
    assert all(p.grad is not None and p.requires_grad for p in model.parameters())


def test_the_weights_that_are_kept_keep_their_own_initialization() -> None:
    model, untouched = network(), network().state_dict()
    masking = snip(model)
    for name, tensor in model.state_dict().items():
        mask = masking.masks.get(name)
        assert torch.equal(tensor, untouched[name] if mask is None else torch.where(mask, untouched[name], 0)), name


def test_scoring_the_network_that_trains_reads_none_of_its_gradients() -> None:
    clean, used = network(), network()
    for parameter in used.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    assert bits(snip(clean).masks) == bits(snip(used).masks)


class WithUnused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unused, self.weak, self.strong = nn.Linear(4, 5), nn.Linear(100, 10), nn.Linear(100, 10)
        self.weak.weight.data.mul_(1e-12)  # scores far below any threshold

    def forward(self, x: Tensor) -> Tensor:
        return self.weak(x.flatten(1)) + self.strong(x.flatten(1))


@pytest.mark.parametrize("density", [0.02, 0.3])
def test_layer_by_layer_every_layer_keeps_its_own_largest_scores(density: float) -> None:
    model = network()
    scores = connection_sensitivity(model, list(maskable_weights(model)), batches())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masking = Masking(model, optimizer, "snip", density, sparse_init="snip-layerwise", snip_batches=batches())
    for name, mask in masking.masks.items():
        count, size = int(mask.sum()), mask.numel()
        assert abs(count - density * size) <= 1
        assert scores[name][mask].min() >= scores[name][~mask].max()
    assert masking.nnz == masking.target_nnz == round(density * masking.num_weights)


def test_no_layer_is_emptied() -> None:
    masking = snip(WithUnused(), 0.02)
    assert masking.active == {"unused.weight": 1, "weak.weight": 1, "strong.weight": round(0.02 * 2020) - 2}


def test_a_layer_that_the_loss_does_not_reach_scores_zero() -> None:
    scores = connection_sensitivity(WithUnused(), ["unused.weight", "strong.weight"], batches())
    assert not scores["unused.weight"].any()
    assert scores["strong.weight"].all()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_batches_give_the_same_masks(dropout: float) -> None:
    """On every process and in every run, whatever random numbers were drawn before."""
    masks = []
    for noise in (1, 2):
        model = with_dropout(dropout)
        torch.manual_seed(noise)
        masks.append(bits(snip(model).masks))
    assert masks[0] == masks[1]


def test_scoring_draws_no_random_numbers_from_training() -> None:
    model = with_dropout(0.5)
    state = torch.get_rng_state()
    connection_sensitivity(model, ["0.weight"], batches())
    assert torch.equal(torch.get_rng_state(), state)


def test_several_batches_score_like_one_large_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(100, 10))
    many = batches(3)
    one = [(torch.cat([x for x, _ in many]), torch.cat([y for _, y in many]))]
    separate, joint = (connection_sensitivity(model, ["1.weight"], data)["1.weight"] for data in (many, one))
    torch.testing.assert_close(separate, joint)


def test_tied_weights_are_scored_once() -> None:
    model = nn.Sequential(nn.Embedding(12, 6), nn.Linear(6, 12, bias=False))
    model[1].weight = model[0].weight
    tokens = torch.arange(12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masking = Masking(model, optimizer, "snip", 0.5, include=["1.weight"], snip_batches=[(tokens, tokens)])
    assert masking.nnz == 36
