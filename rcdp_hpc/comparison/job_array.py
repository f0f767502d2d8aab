"""The job array of a comparison: one task for each cell."""

from __future__ import annotations

from rcdp_hpc.cluster.array import Array
from rcdp_hpc.comparison.plan import make_plan
from rcdp_hpc.comparison.settings import with_search
from rcdp_hpc.config import Config

CELLS = "cells"


def cells_array(config: Config) -> Array:
    """Return the job array of a comparison, whose tasks have the numbers of ``--cell``.

    Cells of methods that cannot take the data are tasks, too, and end at once: the data are not read here.

    Raises
    ------
    InputError
        If the settings ask for no candidate.
    """
    names = tuple(f"cells/{cell.name}" for cell in make_plan(with_search(config)).cells)
    return Array("cells", config, names)
