"""Sparse training with tickets, for any torch model in any training loop."""

from sparselearning.errors import UsageError
from sparselearning.layers import unwrap
from sparselearning.masking import Masking
from sparselearning.methods import DROP, GROWTH, METHODS, Layer, Method
from sparselearning.phases import Exploration
from sparselearning.superposition import Superposition, take_ticket

__all__ = [
    "DROP",
    "GROWTH",
    "METHODS",
    "Exploration",
    "Layer",
    "Masking",
    "Method",
    "Superposition",
    "UsageError",
    "take_ticket",
    "unwrap",
]
