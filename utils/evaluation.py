"""Evaluation on exactly the samples of a split, whatever the number of processes."""

import torch
from accelerate import Accelerator
from torch import nn

from utils.data import EpochOrder, ImageSet
from utils.metrics import per_sample, summarise

BATCH = 500


@torch.no_grad()
def evaluate(accelerator: Accelerator, model: nn.Module, images: ImageSet) -> dict[str, float]:
    """Accuracy (%), NLL and ECE of a model in evaluation mode; its training flag is put back.

    Whole batches go round the processes, so that an image meets the same batch whatever their number, and the rows
    of all images are reduced once, in their order.
    """
    training = model.training
    model.eval()
    rows = torch.zeros(len(images), 3, dtype=torch.float64, device=accelerator.device)
    world, rank = accelerator.num_processes, accelerator.process_index
    starts = range(rank * BATCH, len(images), world * BATCH)
    ranges = [(start, min(start + BATCH, len(images))) for start in starts]
    for (start, stop), (inputs, labels) in zip(ranges, images.clean_batches(ranges), strict=True):
        with accelerator.autocast():
            logits = model(inputs)
        rows[start:stop] = per_sample(logits.float(), labels)
    model.train(training)
    return summarise(accelerator.reduce(rows, "sum"))


@torch.no_grad()
def recompute_batch_norm(accelerator: Accelerator, model: nn.Module, order: EpochOrder, batch_size: int) -> None:
    """Set the model's batch-norm statistics by one pass over an epoch of training data, equal on all processes."""

    ranges = [(stop - batch_size, stop) for stop in range(batch_size, len(order) + 1, batch_size)]
    with accelerator.autocast():
        torch.optim.swa_utils.update_bn((inputs for inputs, _ in order.batches(ranges)), model)
