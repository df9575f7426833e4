"""What of a language model is masked, what a user may add or leave out, and what is said of it."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparselearning import Masking, Superposition, UsageError, take_ticket, unwrap
from sparselearning.layers import maskable_weights
from tests.networks import network, sgd


class Conv1D(nn.Module):
    """As transformers has it for GPT-2: a linear layer whose weight is stored the other way round."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


Conv1D.__module__ = "transformers.pytorch_utils"


class Language(nn.Module):
    """The parts of language models: an embedding tied to the head, Conv1D, an LSTM, experts, a parametrization."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.norm = nn.Embedding(50, 8), nn.LayerNorm(8)
        self.attention, self.memory = Conv1D(8, 8), nn.LSTM(8, 8, batch_first=True)
        self.experts = nn.Parameter(torch.randn(4, 8, 8))
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.embedding(tokens))
        x = x + self.memory(self.attention(x))[0]
        x = x + torch.einsum("btd,eda->bta", x, self.experts)
        return self.head(self.normed(x))


def mask(model: nn.Module, **options: Any) -> Masking:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = sgd(model, lr=0.05, weight_decay=0.0)
        return Masking(model, optimizer, **({"density": 0.25, "update_frequency": 2} | options))


def train(model: nn.Module, masking: Masking, steps: int = 7) -> None:
    for step in range(steps):
        tokens = torch.randint(50, (4, 6), generator=torch.Generator().manual_seed(step))
        nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
        masking.optimizer.step()
        masking.optimizer.zero_grad()


def test_linear_layers_of_transformers_are_masked_and_heads_tied_to_an_embedding_are_not() -> None:
    assert [*maskable_weights(Language())] == ["attention.weight"]


@pytest.mark.parametrize(
    ("include", "names"),
    [
        (["memory.*"], ["attention.weight", "memory.weight_ih_l0", "memory.weight_hh_l0"]),  # and no bias
        (["experts"], ["attention.weight", "experts"]),
        (["normed.*1"], ["attention.weight", "normed.parametrizations.weight.original1"]),
        (["head.weight"], ["attention.weight", "head.weight"]),
        (["attention.weight"], ["attention.weight"]),
        (["embedding.*", "head.*"], ["attention.weight", "embedding.weight"]),
    ],
)
def test_what_is_included_is_trained_sparsely_and_makes_tickets(include: list[str], names: list[str]) -> None:
    model = Language()
    masking = mask(model, include=include, density=0.75)  # weight_norm divides by the norm of a row
    assert [*masking.masks] == names
    superposition = Superposition(masking.masks, masking.target_nnz)
    for _ in range(2):
        train(model, masking)
        ticket = take_ticket(model.state_dict(), masking.masks)
        superposition.add(ticket)
        assert sum(int(ticket[name].count_nonzero()) for name in names) == masking.target_nnz
    superposed = superposition.ticket()
    assert sum(int(superposed[name].count_nonzero()) for name in names) == masking.target_nnz
    model.load_state_dict(superposed)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in superposed.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["memori.*"]}, r"include 'memori\.\*' names no parameter"),
        ({"include": ["norm.*"]}, r"include 'norm\.\*' names no trained parameter of two dimensions"),
        ({"exempt": ["atention.*"]}, r"exempt 'atention\.\*' names no parameter"),
        ({"exempt": ["attention.*"]}, r"no convolution or linear weights left to mask"),
    ],
)
def test_patterns_that_name_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mask(Language(), **options)


def test_the_summary_says_which_share_is_masked_and_names_what_is_not() -> None:
    masking = mask(Language(), include=["experts"])
    # 400 in the embedding, 16 in the norm, 64 + 8, 2·256 + 2·32 in the LSTM, 256, 64 + 8 + 8
    assert masking.summary() == (
        "2 weights with 320 of the model's 1,400 parameters (22.9 %) are masked, 80 of them active; dense stay "
        "embedding.weight (400), memory.weight_ih_l0 (256), memory.weight_hh_l0 (256), 2 more weights, 96 in biases "
        "and norms"
    )


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, True),
        ({"include": ["memory.*", "experts", "normed.*"]}, False),
        ({"exempt": ["memory.*", "experts"]}, False),
    ],
)
def test_a_large_part_that_stays_dense_unasked_is_worth_a_warning(options: dict[str, Any], warned: bool) -> None:
    model = Language()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Masking(model, sgd(model, lr=0.05, weight_decay=0.0), "rigl", 0.25, **options)
    expected = ["60 % of the parameters stay dense in experts, memory.weight_ih_l0, memory.weight_hh_l0, ...: name "
                "them in include= to mask them, or in exempt= if that is wanted"]  # fmt: skip
    assert [str(warning.message) for warning in caught] == (expected if warned else [])


def test_an_average_of_models_becomes_a_ticket_when_it_is_sparsified() -> None:
    model = Language()
    masking = mask(model)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    for _ in range(3):
        train(model, masking, steps=4)
        average.update_parameters(model)
    with pytest.raises(UsageError, match=r"outside the masks are not zero.*sparsify_"):
        take_ticket(average.module.state_dict(), masking.masks)
    masking.sparsify_(average)
    ticket = take_ticket(unwrap(average).state_dict(), masking.masks)
    assert int(ticket["attention.weight"].count_nonzero()) == masking.target_nnz == 16
    with pytest.raises(UsageError, match=r"no attention\.weight of shape \(8, 8\)"):
        masking.sparsify_(network())
