"""What each topology update changes; nobody waits for the device to know."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparselearning.masking import Masking


class Change(NamedTuple):
    """A topology update.

    Attributes:
        step: after so many optimizer steps.
        dropped, grown: connections.
        overlap: the share of the connections before it that exist after it too, float64 () on the device.
    """

    step: int
    dropped: int
    grown: int
    overlap: Tensor


class Changes:
    """The topology updates of a run since they were last taken; the newest one of a masking alone tells them.

    Args:
        masking: None where the network is dense.
    """

    def __init__(self, masking: Masking | None) -> None:
        self.masking = masking
        self.taken: list[Change] = []
        self._before: dict[str, Tensor] = {}  # masks, within a step that moves connections: activations need the room
        if masking is not None:
            masking.before_moves = self._remember
            self._counts = self._count(masking)

    def _remember(self) -> None:
        assert self.masking is not None
        self._before = {name: mask.clone() for name, mask in self.masking.masks.items()}

    @staticmethod
    def _count(masking: Masking) -> tuple[int, int, int, int]:
        return masking.updates, masking.dropped, masking.grown, masking.nnz

    def note(self, step: int) -> bool:
        """After every optimizer step: was the topology updated in it?"""
        masking = self.masking
        if masking is None or masking.updates == self._counts[0]:
            return False
        _, dropped, grown, nnz = self._counts
        left = torch.stack([(mask & self._before[name]).sum() for name, mask in masking.masks.items()]).sum()
        self.taken.append(Change(step, masking.dropped - dropped, masking.grown - grown, left.double() / nnz))
        self._before, self._counts = {}, self._count(masking)
        return True

    def take(self) -> list[Change]:
        """Those noted since the last time, in their order."""
        taken, self.taken = self.taken, []
        return taken
