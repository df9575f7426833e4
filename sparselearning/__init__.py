"""Sparse training with tickets, for any torch model in any training loop."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparselearning.cpu.inference import sparse_inference
    from sparselearning.cpu.training import sparse_training
    from sparselearning.errors import UsageError
    from sparselearning.layers import unwrap
    from sparselearning.masking import Masking
    from sparselearning.methods import DROP, GROWTH, METHODS, Layer, Method
    from sparselearning.phases import Exploration
    from sparselearning.superposition import Superposition, take_ticket
    from sparselearning.tickets import load_ticket

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
    "load_ticket",
    "sparse_inference",
    "sparse_training",
    "take_ticket",
    "unwrap",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # to which any name would exist

    def __getattr__(name: str) -> object:
        """At first use: torch takes seconds to import, which are not to pass before a command line is read."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sparselearning import layers, masking, methods, phases, superposition, tickets
        from sparselearning.cpu import inference, training

        modules = (layers, masking, methods, phases, superposition, tickets, inference, training)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
