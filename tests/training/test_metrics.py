"""Metrics against their definitions, worked numbers and scikit-learn."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from models.members import ensemble
from utils.training.metrics import DIVERSITY, METRICS, calibration_error, per_sample, summarize, width


def metrics(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    return summarize(per_sample(logits, labels))


def diversity(log_probs: torch.Tensor) -> dict[str, float]:
    labels = torch.zeros(log_probs.shape[1], dtype=torch.int64)  # it does without
    return summarize(per_sample(log_probs, labels, DIVERSITY), DIVERSITY)


def ece(*samples: tuple[float, int]) -> float:
    """Of images with a confidence, and 1 or 0: are they right?"""
    return calibration_error(torch.tensor(samples, dtype=torch.float64).T.contiguous())


def ece_by_definition(samples: list[tuple[float, int]]) -> float:
    total = 0.0
    for b in range(15):
        low, high = b / 15, (b + 1) / 15
        inside = [s for s in samples if low < s[0] <= high or (b == 0 and s[0] == 0)]
        if inside:
            confidence = math.fsum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += len(inside) / len(samples) * abs(accuracy - confidence)
    return total


def random_case(n: int = 500, classes: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(n, classes, generator=generator), torch.randint(classes, (n,), generator=generator)


def test_accuracy_and_nll_are_sklearns():
    logits, labels = random_case()
    probabilities = logits.double().softmax(1).numpy()
    result = summarize(per_sample(logits, labels))
    assert result["accuracy"] == pytest.approx(100 * accuracy_score(labels, probabilities.argmax(1)))
    assert result["nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(7)))
    assert result.keys() == METRICS.keys() and all(type(value) is float for value in result.values())


def test_ece_by_definition_on_logits():
    logits, labels = random_case()
    confidence, predicted = logits.double().softmax(1).max(1)
    samples = list(zip(confidence.tolist(), (predicted == labels).int().tolist(), strict=True))
    assert summarize(per_sample(logits, labels))["ece"] == pytest.approx(ece_by_definition(samples))


edges = st.integers(0, 15).map(lambda k: k / 15)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(edges | st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_ece_by_definition_on_edges(samples):
    assert ece(*samples) == pytest.approx(ece_by_definition(samples), abs=1e-12)


def test_ece_by_hand():
    assert ece((1.0, 1)) == 0
    assert ece((1.0, 0)) == 1
    assert ece((0.0, 0)) == 0
    assert ece((0.0, 1)) == 1
    # 1 shares the last bin with 0.95, so the gaps 0 and 0.95 - 1 add up before the absolute value.
    assert ece((1.0, 0), (0.95, 1)) == pytest.approx((1 - 0.05) / 2)
    # 0.2 = 3/15 is the upper edge of the third bin, with 0.15 and not with 0.21.
    assert ece((0.2, 1), (0.15, 0)) == pytest.approx((0.8 - 0.15) / 2)
    assert ece((0.2, 1), (0.21, 0)) == pytest.approx((0.8 + 0.21) / 2)


def test_a_confident_network_keeps_its_loss():
    result = per_sample(torch.tensor([[30.0, 0.0]]), torch.tensor([0]))
    assert result.dtype == torch.float64
    assert summarize(result)["nll"] == pytest.approx(math.log1p(math.exp(-30)), rel=1e-3)
    certain = metrics(torch.tensor([[1000.0, 0.0]]), torch.tensor([0]))
    assert [certain[name] for name in ("accuracy", "nll", "ece", "brier")] == [100, 0, 0, 0]


def test_log_probabilities_are_logits():
    logits, labels = random_case()
    torch.testing.assert_close(per_sample(logits.double().log_softmax(1), labels), per_sample(logits, labels))


def test_shares_of_a_split_give_the_same_numbers():
    logits, labels = random_case()
    parts = [per_sample(logits[i : i + 37], labels[i : i + 37]) for i in range(0, len(logits), 37)]
    assert summarize(torch.cat(parts)) == summarize(per_sample(logits, labels))


def test_half_precision_logits_are_widened_first():
    logits, labels = random_case()
    half = logits.bfloat16()
    assert torch.equal(per_sample(half, labels), per_sample(half.double(), labels))


def test_a_diverged_network_is_not_hidden():
    result = summarize(per_sample(torch.full((2, 3), torch.nan), torch.tensor([0, 1])))
    assert all(math.isnan(result[name]) for name in ("nll", "ece", "brier"))


def test_every_row_has_as_many_columns_as_it_says():
    logits, labels = random_case(n=9, classes=3)
    assert per_sample(logits, labels).shape == (9, width())
    for row in METRICS.values():
        assert row.per_image(logits.double().log_softmax(1), labels).reshape(row.columns, -1).shape == (row.columns, 9)


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        summarize(torch.empty(0, width()))


# --- the Brier score --------------------------------------------------------------------------------------------------


def test_the_brier_score_of_two_classes_is_twice_sklearns():
    """Which sums over one of the two classes, as is usual there; Brier's own definition is over both."""
    logits, labels = random_case(classes=2)
    likely = logits.double().softmax(1)[:, 1].numpy()
    assert metrics(logits, labels)["brier"] == pytest.approx(2 * brier_score_loss(labels.numpy(), likely))


def test_the_brier_score_by_its_definition():
    logits, labels = random_case(n=60)
    total = 0.0
    for probabilities, label in zip(logits.double().softmax(1).tolist(), labels.tolist(), strict=True):
        total += sum((p - (y == label)) ** 2 for y, p in enumerate(probabilities))
    assert metrics(logits, labels)["brier"] == pytest.approx(total / 60)
    wrong = torch.tensor([[1000.0, 0.0, 0.0]])
    assert [metrics(wrong, torch.tensor([label]))["brier"] for label in (0, 1)] == [0, 2]  # the best and the worst


# --- ensembles ------------------------------------------------------------------------------------------------------


def test_an_ensemble_is_the_mean_of_probabilities_by_hand():
    """One image: two models are rather for class 0, one surely for class 1. The geometric mean would be for class 1."""
    models = torch.tensor([[[0.7, 0.3]], [[0.7, 0.3]], [[0.11, 0.89]]], dtype=torch.float64).log()
    assert ensemble(models).exp().tolist() == [pytest.approx([1.51 / 3, 1.49 / 3])]
    found, p = metrics(ensemble(models), torch.tensor([0])), 1.51 / 3
    assert [found["accuracy"], found["nll"]] == pytest.approx([100, -math.log(p)])
    assert [found["ece"], found["brier"]] == pytest.approx([1 - p, 2 * (1 - p) ** 2])


def test_an_ensemble_by_its_definition():
    logits = 4 * torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(1))
    found = ensemble(logits.double().log_softmax(2))
    for i in range(40):
        for c in range(6):
            shares = [math.exp(row[c]) / sum(map(math.exp, row)) for row in logits[:, i].tolist()]
            assert found[i, c].exp().item() == pytest.approx(sum(shares) / 3)


# --- diversity ------------------------------------------------------------------------------------------------------


def test_diversity_by_hand():
    """Two images and two models, then a third that is the first again."""
    first, second = torch.tensor([[[0.5, 0.5], [0.9, 0.1]], [[0.25, 0.75], [0.6, 0.4]]], dtype=torch.float64).log()
    pair, three = torch.stack((first, second)), torch.stack((first, second, first))
    assert diversity(pair)["disagreement"] == 0.5  # the first image; of two equal outputs the first counts
    assert diversity(three)["disagreement"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    forth = (0.5 * math.log(2) + 0.5 * math.log(2 / 3) + 0.9 * math.log(1.5) + 0.1 * math.log(0.25)) / 2
    back = (0.25 * math.log(0.5) + 0.75 * math.log(1.5) + 0.6 * math.log(2 / 3) + 0.4 * math.log(4)) / 2
    assert diversity(pair)["kl"] == pytest.approx((forth + back) / 2)
    assert diversity(three)["kl"] == pytest.approx((2 * forth + 2 * back) / 6)


def test_diversity_by_its_definition():
    models, images, classes = 4, 30, 5
    log_probs = torch.randn(models, images, classes, generator=torch.Generator().manual_seed(0)).double().log_softmax(2)
    p = log_probs.exp().tolist()
    differ, kl = [], []
    for a, b in itertools.permutations(range(models), 2):
        for i in range(images):
            differ.append(p[a][i].index(max(p[a][i])) != p[b][i].index(max(p[b][i])))
            kl.append(sum(p[a][i][y] * (math.log(p[a][i][y]) - math.log(p[b][i][y])) for y in range(classes)))
    assert diversity(log_probs)["disagreement"] == pytest.approx(sum(differ) / len(differ))
    assert diversity(log_probs)["kl"] == pytest.approx(math.fsum(kl) / len(kl))
    assert diversity(log_probs[:1].expand(2, -1, -1))["kl"] == pytest.approx(0, abs=1e-12)


def test_certain_models_have_a_finite_divergence():
    sure = torch.tensor([[[1000.0, 0.0]], [[0.0, 1000.0]]]).log_softmax(2)
    assert diversity(sure)["disagreement"] == 1 and diversity(sure)["kl"] == pytest.approx(1000)
