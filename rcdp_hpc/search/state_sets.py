"""Named sets of reservoir settings that a selection evaluates (``search.method = "select"``).

A set determines the inputs of the reservoir, its dynamics and the reduction of its states. The number of nodes, the
seed and all other keys keep their configured values. Needs neither torch nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rcdp_hpc.errors import InputError


@dataclass(frozen=True)
class StateSet:
    """One set.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of data that it applies to.
    settings : dict
        Keys of ``[reservoir]`` and their values.
    """

    kinds: tuple[str, ...]
    settings: dict[str, Any]


def _series_sets() -> dict[str, StateSet]:
    """Return the sets of series: 4 kinds of inputs times 4 reservoirs."""
    inputs = {
        "values": {"series_scaling": "none", "differences": False},
        "values-differences": {"series_scaling": "none", "differences": True},
        "scaled": {"series_scaling": "standard", "differences": False},
        "scaled-differences": {"series_scaling": "standard", "differences": True},
    }
    pooled = ["mean", "std", "positive", "max"]
    dynamics: dict[str, dict[str, Any]] = {
        "spread": {"leak_low": 0.02, "spectral_radius": 0.9, "reduction": pooled},
        "long": {"leak_low": 0.02, "spectral_radius": 1.2, "reduction": pooled},
        "strong": {"leak_low": 0.03, "spectral_radius": 1.1, "input_scaling": 1.0, "reduction": pooled},
        "segments": {"leak_low": 0.02, "spectral_radius": 0.9, "reduction": ["mean", "std", "segments"], "segments": 6},
    }
    common = {"leak": 1.0, "input_normalised": True, "input_scaling": 0.5, "bias_scaling": 0.3}
    return {
        f"{input_name}/{dynamics_name}": StateSet(
            ("series",), {**common, **inputs[input_name], **dynamics[dynamics_name]}
        )
        for input_name in inputs
        for dynamics_name in dynamics
    }


def _one_step_sets() -> dict[str, StateSet]:
    """Return the sets of tables, whose rows are one step: only the sizes of inputs and biases have an effect.

    One of them is the default of tables, inputs of size 2 and biases up to 1 (docs/tables.md).
    """
    return {
        f"inputs-{size:g}/bias-{bias:g}": StateSet(
            ("table",), {"input_normalised": True, "input_scaling": size, "bias_scaling": bias}
        )
        for size in (0.5, 1.0, 2.0, 4.0)
        for bias in (0.3, 1.0, 2.0)
    }


def _row_sets() -> dict[str, StateSet]:
    """Return the sets of images that are read row by row."""
    return {
        f"inputs-{size:g}/leak-{leak:g}/radius-{radius:g}": StateSet(
            ("images",),
            {"input_normalised": True, "input_scaling": size, "leak": leak, "spectral_radius": radius},
        )
        for size in (0.5, 1.0, 2.0)
        for leak in (0.4, 0.7)
        for radius in (0.6, 1.1)
    }


# All sets by name.
STATE_SETS = {**_series_sets(), **_one_step_sets(), **_row_sets()}


def sets_for(kind: str, names: Sequence[str] = ()) -> list[str]:
    """Return the names of the sets that a selection evaluates.

    Parameters
    ----------
    kind : {"table", "series", "images"}
    names : sequence of str
        ``search.state_sets``; empty for all sets of the kind of data.

    Raises
    ------
    InputError
        If there is no such set for the kind of data, a name is repeated, or there is only one.
    """
    offered = [name for name, state_set in STATE_SETS.items() if kind in state_set.kinds]
    unknown = [name for name in names if name not in offered]
    if unknown:
        raise InputError(
            f"search.state_sets: {', '.join(unknown)}: no set of this name for {kind}; choose from {', '.join(offered)}"
        )
    if len(set(names)) < len(names) or len(names) == 1:
        raise InputError(
            f"search.state_sets = {list(names)}: give two or more different names, or none for all sets of {kind}"
        )
    return list(names) or offered
