"""Levy flights of moths.

Z. Li, Y. Zhou, S. Zhang, J. Song, "Levy-flight moth-flame algorithm for function optimization and engineering design
problems", Mathematical Problems in Engineering (2016) 1423930.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rcdp_hpc.search.optimizers.improvements.base import Improvement
from rcdp_hpc.search.optimizers.levy_flight import levy_steps

if TYPE_CHECKING:
    from rcdp_hpc.search.optimizers.base import Positions
    from rcdp_hpc.search.optimizers.moth_flame import MothFlame


class Levy(Improvement):
    """After the spiral every moth makes a step of a Levy flight (`levy_steps`), in units of the width of the box."""

    def next_moths(self, search: MothFlame, moths: Positions) -> Positions:
        """Return the moths after their steps."""
        _, *numbers = search.random_numbers(search.generation, 5, *moths.shape)
        steps = levy_steps(*numbers) * (search.upper - search.lower)
        return np.clip(moths + steps, search.lower, search.upper)
