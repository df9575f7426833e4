"""Sparse training with tickets, for any torch model in any training loop."""

from sparselearning.errors import UsageError
from sparselearning.masking import Masking
from sparselearning.methods import METHODS
from sparselearning.superposition import Superposition, take_ticket

__all__ = ["METHODS", "Masking", "Superposition", "UsageError", "take_ticket"]
