"""Batches from which SNIP can learn nothing are refused in one line, before anything is touched."""

from typing import Any

import torch

from sparselearning import Masking
from tests.exact import bits
from tests.misuse import every, inf, nan, refused
from tests.networks import batch, network, sgd


def exhausted() -> Any:
    batches = iter([batch()])
    list(batches)
    return batches


x, y = batch()
SNIP: dict[str, tuple[Any, str]] = {
    "None": (None, "snip_batches"),
    "empty": ([], "a score of 0"),
    "exhausted": (exhausted(), "a score of 0"),
    "a number": (3, "snip_batches must be"),
    "one batch, not in a list": ((x, y), "snip_batches must be"),
    "images without labels": ([x], "snip_batches must be"),
    "a dict": ([{"images": x, "labels": y}], "snip_batches must be"),
    "NaN": ([(x * nan, y)], "a score of nan"),
    "infinite": ([(x * inf, y)], "a score of nan"),
    "NaN in the last batch": ([(x, y), (x * nan, y)], "a score of nan"),
    "of no images": ([(x[:0], y[:0])], "a score of 0"),
    "all zero": ([(x * 0, y)] * 2, "a score of 0"),
    "labels out of range": ([(x, y + 10)], "snip_batches must be"),
    "negative labels": ([(x, y - 20)], "snip_batches must be"),
    "labels as floats": ([(x, y.float())], "snip_batches must be"),
    "labels that are all ignored": ([(x, torch.full_like(y, -100))], "a score of 0"),
    "other numbers of images and labels": ([(x, y[:3])], "snip_batches must be"),
    "images of another shape": ([(torch.zeros(8, 3, 4, 4), y)], "snip_batches must be"),
    "images in bytes": ([(x.byte(), y)], "snip_batches must be"),
    "arrays": ([(x.numpy(), y.numpy())], "snip_batches must be"),
    "on another device": ([(x.to("meta"), y.to("meta"))], "snip_batches must be"),
    "labels on another device": ([(x, y.to("meta"))], "snip_batches must be"),
}


@every(SNIP, "batches", "match")
def test_batches_that_snip_cannot_score_are_refused(batches: Any, match: str) -> None:
    model = network()
    before = bits(model.state_dict())
    refused(lambda: Masking(model, sgd(model), "snip", 0.2, snip_batches=batches), match)
    assert bits(model.state_dict()) == before
