"""Evaluation on exactly the samples of a split, whatever the number of processes."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from models.members import Members, ensemble
from utils.data.protocol import Epoch, Images
from utils.run_folder.tickets import load_ticket
from utils.training.metrics import DIVERSITY, METRICS, per_sample, summarize, width

BATCH = 500


def evaluate(accelerator: Accelerator, model: nn.Module, images: Images) -> dict[str, float]:
    """The METRICS of a model in evaluation mode, and of one with several members their DIVERSITY.

    Its training flag is put back.
    """

    def measure(inputs: Tensor, labels: Tensor) -> Tensor:
        return per_sample(model(inputs).float(), labels)

    training = model.training
    model.eval()
    if isinstance(model, Members) and model.members > 1:
        found = _evaluate_members(accelerator, model.logits, images)
    else:
        found = summarize(by_image(accelerator, images, width(METRICS), measure))
    model.train(training)
    return found


def evaluate_ensemble(accelerator: Accelerator, models: Sequence[nn.Module], images: Images) -> dict[str, float]:
    """The METRICS of the mean of the models' softmax outputs, and DIVERSITY, how much the models differ.

    Args:
        models: at least 2, in evaluation mode.
    """
    return _evaluate_members(accelerator, lambda inputs: torch.stack([model(inputs) for model in models]), images)


def _evaluate_members(
    accelerator: Accelerator, logits: Callable[[Tensor], Tensor], images: Images
) -> dict[str, float]:
    """As `evaluate_ensemble`, from the logits (M, N, C) of a batch.

    The prediction and its diversity are those of FreeTickets (Liu et al. 2022), sections 3.2 and 5.1.
    """

    def measure(inputs: Tensor, labels: Tensor) -> Tensor:
        log_probs = logits(inputs).double().log_softmax(-1)
        rows = per_sample(ensemble(log_probs), labels), per_sample(log_probs, labels, DIVERSITY)
        return torch.cat(rows, dim=1)

    rows = by_image(accelerator, images, width(METRICS) + width(DIVERSITY), measure)
    return summarize(rows[:, : width(METRICS)]) | summarize(rows[:, width(METRICS) :], DIVERSITY)


def evaluate_tickets(
    accelerator: Accelerator, model: nn.Module, paths: Sequence[Path], images: Images
) -> dict[str, float]:
    """Metrics of the ensemble of saved tickets, each loaded into a copy of `model`.

    Raises:
        UsageError: a ticket is missing, damaged or of another model.
    """
    members = []
    for path in paths:
        member = copy.deepcopy(model).eval()
        member.load_state_dict(load_ticket(path, model.state_dict()))
        members.append(member)
    return evaluate_ensemble(accelerator, members, images)


@torch.no_grad()
def by_image(
    accelerator: Accelerator,
    images: Images,
    columns: int,
    measure: Callable[[Tensor, Tensor], Tensor],
    title: str | None = None,
) -> Tensor:
    """A row of measurements for each image, float64 (N, columns), equal on all processes.

    Whole batches go round the processes, so that an image meets the same batch whatever their number, and the rows
    of all images can be reduced once, in their order.

    Args:
        measure: makes the rows of a batch, (B, columns), of its images and labels.
        title: of a bar on a terminal; None: there is none.
    """
    rows = torch.zeros(len(images), columns, dtype=torch.float64, device=accelerator.device)
    world, rank = accelerator.num_processes, accelerator.process_index
    starts = range(rank * BATCH, len(images), world * BATCH)
    ranges = [(start, min(start + BATCH, len(images))) for start in starts]
    hidden = None if title and accelerator.is_main_process else True  # else a bar on a terminal
    batches = tqdm(images.clean_batches(ranges), title, len(ranges), leave=False, disable=hidden)
    for (start, stop), (inputs, labels) in zip(ranges, batches, strict=True):
        with accelerator.autocast():
            rows[start:stop] = measure(inputs, labels)
    return accelerator.reduce(rows, "sum")


def recompute_batch_norm(accelerator: Accelerator, model: nn.Module, order: Epoch, batch_size: int) -> None:
    """Set the model's batch-norm statistics by one pass over an epoch of training data, equal on all processes."""
    batch_size = min(batch_size, len(order))
    ranges = [(stop - batch_size, stop) for stop in range(batch_size, len(order) + 1, batch_size)]
    hidden = None if accelerator.is_main_process else True  # else a bar on a terminal
    batches = tqdm(order.batches(ranges), "batch norm", len(ranges), leave=False, disable=hidden)
    with accelerator.autocast():
        torch.optim.swa_utils.update_bn((inputs for inputs, _ in batches), model)
