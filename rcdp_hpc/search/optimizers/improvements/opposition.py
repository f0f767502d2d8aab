"""Opposition-based learning.

H. R. Tizhoosh, "Opposition-based learning", Proc. CIMCA (2005) 695-701.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rcdp_hpc.search.optimizers.improvements.base import Improvement

if TYPE_CHECKING:
    from rcdp_hpc.search.optimizers.base import Positions
    from rcdp_hpc.search.optimizers.moth_flame import MothFlame


class Opposition(Improvement):
    """In generation 1 the second half of the moths are the opposites lower + upper - x of the first half."""

    def first_moths(self, search: MothFlame, moths: Positions) -> Positions:
        """Return the moths of generation 1, the second half replaced."""
        half = search.population // 2
        opposites = search.lower + search.upper - moths[:half]
        moths[search.population - half :] = np.clip(opposites, search.lower, search.upper)
        return moths
