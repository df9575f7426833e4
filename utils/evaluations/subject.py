"""What is evaluated: the networks of some tickets, and the ensemble of them all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from models.members import ensemble
from utils.data.other_sets import OtherSets
from utils.data.protocol import Images
from utils.training.evaluation import by_image
from utils.training.metrics import DIVERSITY, METRICS, per_sample, summarize, width

Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """Its predictors are the networks and, of several, their ensemble, the last one.

    Attributes:
        models: in evaluation mode.
        sets: the test images, and others like them.
    """

    accelerator: Accelerator
    models: Sequence[nn.Module]
    sets: OtherSets

    @property
    def predictors(self) -> int:
        """How many there are."""
        return len(self.models) + (len(self.models) > 1)

    def predict(self, inputs: Tensor, among: Tensor | None = None) -> Tensor:
        """Log-probabilities of every predictor, float64 (predictors, B, classes).

        Args:
            among: the classes to choose from, int64 (classes,); None: all of them.
        """
        logits = torch.stack([model(inputs).double() for model in self.models])
        each = (logits if among is None else logits[..., among]).log_softmax(2)
        return torch.cat((each, ensemble(each)[None])) if len(each) > 1 else each

    def measure(
        self, images: Images, columns: int, measure: Measure, title: str, among: Tensor | None = None
    ) -> Tensor:
        """Numbers for each image, float64 (predictors, N, columns), equal on all processes.

        Args:
            measure: makes them, (B, columns), of log-probabilities (B, classes) and labels (B,).
        """

        def rows(inputs: Tensor, labels: Tensor) -> Tensor:
            return torch.cat([measure(log_probs, labels) for log_probs in self.predict(inputs, among)], dim=1)

        found = by_image(self.accelerator, images, self.predictors * columns, rows, title)
        return found.unflatten(1, (self.predictors, columns)).transpose(0, 1)

    def metrics(self, images: Images, title: str, among: Tensor | None = None) -> list[dict[str, float]]:
        """METRICS of every predictor."""
        return [summarize(rows) for rows in self.measure(images, width(METRICS), per_sample, title, among)]

    def on_test_images(self) -> list[dict[str, float]]:
        """METRICS of every predictor on the test images, and DIVERSITY of the networks beside those of the ensemble."""
        several, own = len(self.models) > 1, self.predictors * width(METRICS)

        def rows(inputs: Tensor, labels: Tensor) -> Tensor:
            predicted = self.predict(inputs)
            parts = [per_sample(log_probs, labels) for log_probs in predicted]
            if several:
                parts.append(per_sample(predicted[: len(self.models)], labels, DIVERSITY))
            return torch.cat(parts, dim=1)

        columns = own + several * width(DIVERSITY)
        found = by_image(self.accelerator, self.sets.test, columns, rows, "test images")
        metrics = [summarize(part) for part in found[:, :own].split(width(METRICS), dim=1)]
        if several:
            metrics[-1] |= summarize(found[:, own:], DIVERSITY)
        return metrics
