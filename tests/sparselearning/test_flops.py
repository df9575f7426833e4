"""Costs agree with torch's own counter, and measuring them changes nothing."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import build
from sparselearning.errors import UsageError
from sparselearning.flops import LayerCost, forward_flops, layer_costs, step_flops
from tests.networks import on_meta


@pytest.mark.parametrize(
    "name", ["alexnet", "resnet18", "resnext50_32x4d", "mobilenet_v2", "convnext_tiny", "vit_b_16", "swin_t"]
)
def test_plain_counting_agrees_with_torch(name: str) -> None:
    model = on_meta(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 224, 224, device="meta"))
    by_operator = counter.get_flop_counts()["Global"]
    of_weights = (torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm)  # attention scores have none
    assert forward_flops(layer_costs(model)) == sum(by_operator.get(operator, 0) for operator in of_weights)


def test_vision_transformer_counts_its_attention_projections() -> None:
    costs = layer_costs(on_meta("vit_b_16"))
    tokens, width = 14 * 14 + 1, 768
    attention = "encoder.layers.encoder_layer_0.self_attention"
    assert costs[f"{attention}.in_proj_weight"] == LayerCost(width, 3 * width * tokens, 3 * width * tokens)
    assert costs[f"{attention}.out_proj.weight"] == LayerCost(width, width * tokens, width * tokens)
    assert len(costs) == 1 + 12 * 4 + 1


def test_attention_over_other_tokens_counts_each_projection_by_its_own_sequence() -> None:
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(query=x[:, :2], value=x[..., :4], key=x[..., :6])[0]

    assert {name: (cost.fan_in, cost.outputs) for name, cost in layer_costs(Pooling(), (5, 8)).items()} == {
        "attention.q_proj_weight": (8, 16),
        "attention.k_proj_weight": (6, 40),
        "attention.v_proj_weight": (4, 40),
        "attention.out_proj.weight": (8, 16),
    }


def test_a_transformer_encoder_is_counted_in_spite_of_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    costs = layer_costs(layer, (5, 8))
    assert sum(cost.fan_in * cost.outputs for cost in costs.values()) == 5 * (4 * 8 * 8 + 2 * 8 * 16)


def test_a_layer_used_twice_costs_twice() -> None:
    shared = nn.Linear(4, 4)
    assert layer_costs(nn.Sequential(shared, nn.ReLU(), shared), (4,)) == {"0.weight": LayerCost(4, 8, 8)}


def test_a_layer_that_is_not_used_costs_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].spare = nn.Linear(4, 4)
    assert list(layer_costs(model, (4,))) == ["0.weight"]


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = build("resnet20", 10).train()
    model.get_submodule("stages.1").eval()  # a part that the user has frozen
    state = {key: value.clone() for key, value in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()

    layer_costs(model, (3, 32, 32))

    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == training
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_forward_pass_that_fails_leaves_the_model_as_it_was_too() -> None:
    model = build("resnet20", 10).train()
    with pytest.raises(RuntimeError):
        layer_costs(model, (5, 32, 32))
    assert all(module.training for module in model.modules())


def test_measuring_follows_the_dtype_of_the_parameters() -> None:
    assert layer_costs(nn.Linear(4, 2).bfloat16(), (4,)) == layer_costs(nn.Linear(4, 2).double(), (4,))


def test_layers_without_a_density_are_dense() -> None:
    costs = {"a": LayerCost(10, 3, 3), "b": LayerCost(5, 2, 2)}
    assert forward_flops(costs, {"a": 0.5}) == 30 + 20
    assert forward_flops(costs, {"a": 0.5}, "rigl") == 30 + 3 + 20 + 2
    assert forward_flops(costs, {"a": 0.0, "b": 0.0}) == 0


def test_unknown_counting_and_unknown_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="choose one of plain, rigl"):
        forward_flops({"a": LayerCost(1, 1, 1)}, counting="macs")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="dense, sparse, dense_gradient_at_updates, dense_gradient_always"):
        step_flops("rigl", 1, 2, 100)  # type: ignore[arg-type]
