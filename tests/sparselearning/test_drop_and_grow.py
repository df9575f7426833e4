"""What an update drops and grows: the connections that sorting by hand gives, and random ones by their seed."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparselearning import Masking
from sparselearning.methods import GROWTH
from tests.exact import bits
from tests.misuse import nan
from tests.networks import layers, row, set_masks, sgd


def sorted_update(
    weights: list[Tensor], masks: list[Tensor], gradients: list[Tensor], rate: float, keep: int | None
) -> list[list[bool]]:
    """One topology update by Python's sort: earlier positions win ties. `keep`: first prune all layers to so many."""
    values = [[abs(v) for v in w.flatten().tolist()] for w in weights]
    scores = [[abs(v) for v in g.flatten().tolist()] for g in gradients]
    active = [[i for i, m in enumerate(mask.flatten().tolist()) if m] for mask in masks]
    if keep is not None and keep < sum(map(len, active)):
        firsts = [(layer, max(active[layer], key=lambda i: values[layer][i])) for layer in range(len(active))]
        others = [(layer, i) for layer in range(len(active)) for i in active[layer] if (layer, i) not in firsts]
        others.sort(key=lambda at: -values[at[0]][at[1]])
        kept = firsts + others[: keep - len(firsts)]
        active = [sorted(i for at, i in kept if at == layer) for layer in range(len(active))]
    result = []
    for value, score, here in zip(values, scores, active, strict=True):
        swap = min(math.ceil(round(rate * len(here), 6)), len(value) - len(here))
        stay = sorted(here, key=lambda i: -value[i])[: len(here) - swap]
        free = [i for i in range(len(value)) if i not in stay]
        grown = sorted(free, key=lambda i: -score[i])[:swap]
        result.append([i in stay or i in grown for i in range(len(value))])
    return result


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_rigl_and_granet_move_what_sorting_by_hand_moves(data: st.DataObject) -> None:
    granet = data.draw(st.booleans())
    shapes = data.draw(st.lists(st.tuples(st.integers(2, 5), st.integers(1, 5)), min_size=1, max_size=3))
    rate = data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.9]))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    ties = data.draw(st.booleans())
    model = layers(*shapes)
    for weight in model.parameters():
        weight.data, weight.grad = (torch.randn(weight.shape, generator=rng) for _ in "wg")
        if ties:
            weight.data, weight.grad = weight.data.round(), weight.grad.round()
    optimizer = sgd(model, lr=0.0, momentum=0.9, weight_decay=0.0)
    gradual = {"method": "granet", "init_density": 0.8, "prune_end": 2} if granet else {"method": "rigl"}
    masking = Masking(
        model, optimizer, density=0.5, sparse_init="uniform", update_frequency=1, prune_rate=rate, **gradual
    )

    weights, gradients = ([t.clone() for t in ts] for ts in (model.parameters(), [w.grad for w in model.parameters()]))
    masks = [mask.clone() for mask in masking.masks.values()]
    keep = round((0.5 + 0.3 * 0.5**3) * masking.num_weights) if granet else None
    expected = sorted_update(weights, masks, gradients, rate, keep)
    optimizer.step()
    for weight, gradient, old, new, hand in zip(
        model.parameters(), gradients, masks, masking.masks.values(), expected, strict=True
    ):
        assert new.flatten().tolist() == hand
        before, momentum = weights.pop(0).detach(), optimizer.state[weight]["momentum_buffer"]
        # regrown or never dropped: bit for bit what they were; anything else starts from zero
        assert torch.equal(weight.detach(), torch.where(old & new, before, 0.0))
        assert torch.equal(momentum, torch.where(old & new, gradient, 0.0))


def test_eight_weights_by_hand() -> None:
    #             active ──────────────  free ──────────────
    layer = row([0.9, -0.1, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.1, 0.3, -0.9, 0.3, 0.2])
    optimizer = sgd(layer, lr=1.0, momentum=0.5, weight_decay=0.0)
    masking = Masking(layer, optimizer, "rigl", density=0.5, update_frequency=1, prune_rate=0.5)
    set_masks(masking, [1, 1, 1, 1, 0, 0, 0, 0])
    layer.weight.data = torch.tensor([[0.9, -0.1, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0]])
    optimizer.step()
    # the step makes the weights 0.9, -0.6, 0.4, 0.1, so that 2 and 3 are dropped; of what is free then, 5 is grown for
    # its gradient of 0.9, and 4 before 6, which is equal (0.3)
    assert masking.masks["weight"].int().tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
    assert layer.weight[0].tolist() == pytest.approx([0.9, -0.6, 0, 0, 0, 0, 0, 0])
    assert optimizer.state[layer.weight]["momentum_buffer"][0].tolist() == pytest.approx([0, 0.5, 0, 0, 0, 0, 0, 0])
    assert (masking.dropped, masking.grown) == (2, 2)
    layer.weight.grad = torch.tensor([[0.0, 0.1, 0.3, 0.0, 1.0, 1.0, 0.0, 0.0]])
    optimizer.step()
    # weights 0.9, -0.95 (momentum 0.35), -1, -1: 0 and 1 are dropped; 2 (0.3) is the best that is free, then 1 (0.1)
    assert masking.masks["weight"].int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]
    assert layer.weight[0].tolist() == pytest.approx([0, -0.95, 0, 0, -1, -1, 0, 0])  # 1 came back with its value
    assert optimizer.state[layer.weight]["momentum_buffer"][0].tolist() == pytest.approx([0, 0.35, 0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize("gradient", ["missing", "shuffled", "nan where inactive"])
def test_set_never_reads_a_gradient(gradient: str) -> None:
    masks = []
    for kind in ("zero", gradient):
        model = layers((12, 9), (9, 12))
        torch.manual_seed(0)
        for weight in model.parameters():
            nn.init.normal_(weight)
        optimizer = sgd(model, lr=1.0, weight_decay=0.0)
        masking = Masking(model, optimizer, "set", 0.3, update_frequency=1)
        for _ in range(3):
            for name, weight in masking.weights.items():
                filled = {"zero": 0.0, "missing": 0.0, "shuffled": torch.randn(weight.shape), "nan where inactive": nan}
                weight.grad = torch.zeros_like(weight) + filled[kind]
                weight.grad[masking.masks[name]] = 0.0  # what is active stays where it is, so that the drop is the same
                if kind == "missing":
                    weight.grad = None
            optimizer.step()
        masks.append(bits(masking.masks))
    assert masks[0] == masks[1]


# ---- other growth scores ---------------------------------------------------------------------------------------------


def test_random_growth_depends_on_seed_update_and_layer_and_on_nothing_else() -> None:
    def score(seed: int = 0, updates: int = 7, layer: str = "0.weight", noise: int = 0) -> tuple[float, ...]:
        model = layers((4, 4), (4, 4))
        masking = Masking(model, sgd(model), "set", 0.5, seed=seed)
        torch.manual_seed(noise)
        layers_ = masking.layers(masking.topology, key=(seed, updates))
        return tuple(GROWTH["random"](layers_[layer]).flatten().tolist())

    assert score(noise=1) == score(noise=2)
    assert len({score(), score(seed=1), score(updates=8), score(layer="1.weight")}) == 4


def test_random_growth_reaches_every_free_position() -> None:
    grown = torch.zeros(1, 12, dtype=torch.bool)
    for seed in range(60):
        layer = row([0.0] * 12, [0.0] * 12)
        masking = Masking(layer, sgd(layer), "set", 0.25, update_frequency=1, seed=seed)
        set_masks(masking, [1, 1, 1] + [0] * 9)
        masking.update_topology(0.5, "random")
        assert masking.masks["weight"][0, 0]
        grown |= masking.masks["weight"]
    assert grown.all()


def test_momentum_growth_takes_the_largest_running_mean_of_the_dense_gradient() -> None:
    picked = {}
    for growth in ("gradient", "momentum"):
        layer = row([1.0, 0.0, 0.0, 0.0], [0.0] * 4)
        optimizer = sgd(layer, lr=0.01, weight_decay=0.0)
        masking = Masking(layer, optimizer, "rigl", 0.5, growth=growth, update_frequency=3)
        set_masks(masking, [1, 1, 0, 0])
        # position 2: 5, -1, 1 → 0.81·5 - 0.9·1 + 1 = 4.15; position 3: 0, 0, 2 → 2
        for gradient in ([0, 0, 5, 0], [0, 0, -1, 0], [0, 0, 1, 2]):
            layer.weight.grad = torch.tensor([gradient], dtype=torch.float32)
            optimizer.step()
        picked[growth] = masking.masks["weight"].int().tolist()
    assert picked == {"gradient": [[1, 0, 0, 1]], "momentum": [[1, 0, 1, 0]]}


# ---- what has been ---------------------------------------------------------------------------------------------------


def test_ever_active_is_every_connection_that_ever_was() -> None:
    layer = row([1.0] * 8, [0.0] * 8)
    optimizer = sgd(layer, lr=0.0)
    masking = Masking(layer, optimizer, "rigl", 0.25, update_frequency=1)
    set_masks(masking, [1, 1, 0, 0, 0, 0, 0, 0])
    masking.ever_active["weight"].copy_(masking.masks["weight"])
    for best in (2, 3, 2):
        layer.weight.grad = torch.zeros(1, 8)
        layer.weight.grad[0, best] = 1.0
        optimizer.step()
    assert masking.ever_active["weight"].int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert masking.itop_rate() == 0.5
