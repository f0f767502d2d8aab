"""No balancing."""

from __future__ import annotations

from rcdp_hpc.data.balancing.base import BalancingMethod, BalancingTask
from rcdp_hpc.data.rows import RowTable


class Unbalanced(BalancingMethod):
    """Leaves the classes as they are."""

    def rows(self, task: BalancingTask) -> RowTable:
        """Return the training samples."""
        return task.originals()
