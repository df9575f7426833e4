"""The fast gradient sign method: its closed form on a linear network, and who meets which attack."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.evaluations.subjects import network, options, pixels_of, probabilities, small_images, subject
from utils.evaluations import fgsm
from utils.evaluations.fgsm import attack
from utils.evaluations.subject import Subject
from utils.training.evaluation import by_image

EPSILON = 8 / 255
LABELS = np.arange(37) % 10


def in_pixels(inputs: torch.Tensor) -> torch.Tensor:
    return inputs * 0.25 + 0.45


def test_on_a_linear_network_of_two_classes_it_is_the_closed_form():
    """The loss of class y grows along the weights of the other class minus its own, whatever the image."""
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), small_images(9)
    inputs, labels = images.clean_batch(0, 9)[0], torch.arange(9) % 2
    weight = model[1].weight.detach().view(2, 3, 32, 32)
    away = (weight[1 - labels] - weight[labels]).sign()
    expected = (in_pixels(inputs) + EPSILON * away).clamp(0, 1)
    torch.testing.assert_close(in_pixels(attack(model, inputs, labels, EPSILON, images)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("epsilon", [1 / 255, 0.0314, 1.0])
def test_a_step_is_epsilon_in_pixels_and_ends_at_black_and_white(epsilon):
    images, model = small_images(), network(1)
    inputs, labels = images.clean_batch(0, 37)
    x, moved = in_pixels(inputs), in_pixels(attack(model, inputs, labels, epsilon, images))
    assert moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6
    free = (x - epsilon > 0) & (x + epsilon < 1) & (moved != x)
    steps = (moved - x)[free].abs()
    torch.testing.assert_close(steps, torch.full_like(steps, epsilon), atol=1e-6, rtol=0)
    assert free.any() or epsilon == 1


def test_a_network_that_is_certain_is_attacked_all_the_same():
    """Its probability rounds to 1, and in single precision the gradient of its loss to 0."""
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2, bias=False)), small_images(1)
    model[1].weight.data = torch.tensor([[0.01], [0.0]]).expand(2, 3072)
    inputs, label = images.clean_batch(0, 1)[0].abs(), torch.zeros(1, dtype=torch.int64)
    assert model(inputs).softmax(1)[0, 0] == 1
    moved = attack(model, inputs, label, EPSILON, images)
    assert (moved < inputs).all()


def test_gradients_of_parts_of_a_batch_are_those_of_the_whole(monkeypatch):
    images, model = small_images(), network(1)
    batch = images.clean_batch(0, 37)
    whole = attack(model, *batch, EPSILON, images)
    monkeypatch.setattr(fgsm, "PART", 5)
    assert torch.allclose(attack(model, *batch, EPSILON, images), whole)
    assert all(parameter.grad is None for parameter in model.parameters())


def accuracy(outputs: np.ndarray) -> float:
    return 100 * float(np.mean(outputs.argmax(1) == LABELS))


def attacked(model: nn.Module) -> np.ndarray:
    """The images as bytes would be, had they fractions: float (37, 32, 32, 3)."""
    images = small_images()
    x = torch.from_numpy(pixels_of(images)).permute(0, 3, 1, 2) / 255
    x.requires_grad_()
    nn.functional.cross_entropy(model((x - 0.45) / 0.25).double(), torch.from_numpy(LABELS)).backward()
    return 255 * (x + EPSILON * x.grad.sign()).clamp(0, 1).detach().permute(0, 2, 3, 1).numpy()


def test_an_ensemble_meets_the_attack_of_each_of_its_networks_and_each_network_its_own():
    whole = subject(1, 2, 3)
    *own, ensemble = fgsm.run(whole, options("--fgsm"))
    met = [probabilities(whole.models, attacked(model)) for model in whole.models]
    alone = [accuracy(outputs[i]) for i, outputs in enumerate(met)]
    assert [block["mean"] for block in own] == pytest.approx(alone)
    assert all(block["min"] == block["mean"] == block["max"] for block in own)
    together = [accuracy(outputs[3]) for outputs in met]
    assert ensemble["attacks"] == pytest.approx(together) and ensemble["epsilon"] == EPSILON
    assert [ensemble[name] for name in ("min", "mean", "max")] == pytest.approx(
        [min(together), np.mean(together), max(together)]
    )
    assert [ensemble["members"][name] for name in ("min", "mean", "max")] == pytest.approx(
        [min(alone), np.mean(alone), max(alone)]
    )
    assert min(alone) < 100 * np.mean(probabilities(whole.models, pixels_of(small_images()))[0].argmax(1) == LABELS)


def test_a_ticket_alone_meets_its_own_attack():
    (block,) = fgsm.run(subject(2), options("--fgsm", 0.1))
    assert block["min"] == block["mean"] == block["max"] and block["epsilon"] == 0.1 and "attacks" not in block


def test_evaluation_alone_builds_no_graph():
    seen = []
    whole: Subject = subject(1)
    by_image(whole.accelerator, whole.sets.test, 1, lambda x, y: seen.append(whole.predict(x)) or y[:, None].double())
    assert not seen[0].requires_grad
