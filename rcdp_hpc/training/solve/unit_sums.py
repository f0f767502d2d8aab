"""Exact sums over the rows of units, on all ranks.

A unit's rows are consecutive in a split. They are divided into groups of at most `GROUP_ROWS` rows, counted from the
first row of the unit, and a group into blocks of ``reservoir.batch_rows``. States and products of a group therefore
depend on the rows of its unit alone: not on other units, on the number of ranks, or on which rank computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any

import torch

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.training.solve.device_exact_sums import DeviceExactSums, device_bytes
from rcdp_hpc.training.solve.exact_sums import ExactSums, joined_numbers, split_numbers
from rcdp_hpc.training.solve.kept_sums import PARTS, ROLES, Unit
from rcdp_hpc.training.solve.solving_device import device_with_room

# Rows whose products are added in float64 before they are rounded, counted with the shifted copies of an image.
GROUP_ROWS = 2048

# Returns the blocks of states and class indices of rows START to STOP - 1 of a split.
StateBlocks = Callable[[str, int, int], Iterable[tuple[torch.Tensor, torch.Tensor]]]


@dataclass(frozen=True)
class UnitRows:
    """Consecutive rows of a unit in a split.

    Attributes
    ----------
    name : str
    role : {"train", "validation"}
        The split.
    start, stop : int
        First row, and one after the last.
    """

    name: str
    role: str
    start: int
    stop: int


def unit_rows(index: Mapping[str, Any], without: Sequence[str] = ()) -> list[UnitRows]:
    """Return the rows of the units of shards: those of ``data.unit_pattern``, or the shard files.

    Parameters
    ----------
    index : mapping
        The content of index.json.
    without : sequence of str
        Units that are left out.

    Raises
    ------
    InputError
        If a unit that should be left out is not there.
    """
    rows = [unit for role in ROLES for unit in _units_of(index, role)]
    refuse_unknown_units("readout.without_units", without, [unit.name for unit in rows])
    return [unit for unit in rows if unit.name not in without]


def _units_of(index: Mapping[str, Any], role: str) -> list[UnitRows]:
    units = index.get("units")
    entries = (
        [(unit["name"], unit["rows"]) for unit in units[role]]
        if units
        else [(shard["file"], shard["rows"]) for shard in index["splits"][role]["shards"]]
    )
    ends = list(accumulate((rows for _, rows in entries), initial=0))
    return [UnitRows(name, role, start, start + rows) for (name, rows), start in zip(entries, ends, strict=False)]


def refuse_unknown_units(what: str, names: Sequence[str], units: Sequence[str]) -> None:
    """Raise an `InputError` if a name is not one of the units."""
    for name in names:
        if name not in units:
            listed = ", ".join(sorted(set(units))[:10])
            more = f" and {len(set(units)) - 10} more" if len(set(units)) > 10 else ""
            raise InputError(f"{what}: there is no unit {name!r}. Units: {listed}{more}.")


def groups_of_rank(units: Sequence[UnitRows], rank: int, ranks: int, copies: int = 1) -> Iterator[UnitRows]:
    """Yield the groups of a rank; each group is in one unit, and belongs to the rank that has its first row.

    Parameters
    ----------
    units : sequence of UnitRows
    rank, ranks : int
    copies : int
        How often each row is summed.
    """
    size = max(1, GROUP_ROWS // copies)
    total = sum(unit.stop - unit.start for unit in units)
    low, high = (total * end // ranks for end in (rank, rank + 1))
    first = 0
    for unit in units:
        for start in range(unit.start, unit.stop, size):
            if low <= first + start - unit.start < high:
                yield replace(unit, start=start, stop=min(start + size, unit.stop))
        first += unit.stop - unit.start


def sum_units(
    comm: Communicator,
    units: Sequence[UnitRows],
    blocks: StateBlocks,
    features: int,
    classes: int,
    by_class: bool = False,
    copies: int = 1,
    device: torch.device | None = None,
) -> dict[str, Unit]:
    """Return the exact sums of each unit. Collective.

    Parameters
    ----------
    comm : Communicator
    units : sequence of UnitRows
    blocks : callable
        Computes the states of some rows in blocks.
    features, classes : int
    by_class : bool
        Whether X'X is kept for each class.
    copies : int
        How often `blocks` yields each training row.
    device : torch.device, optional
        Device of the states that multiplies them (`rcdp_hpc.reservoir.device_sums.sums_device`), if the sums of a unit
        fit into its memory; by default the CPU.

    Returns
    -------
    dict of str to Unit
        The same bits for any number of ranks. Only rank 0 has the units; other ranks return an empty dict.

    Raises
    ------
    CandidateError
        If features are not finite, or too large for exact sums.
    """
    needed = device_bytes(features, classes, by_class)
    device = device_with_room(comm, device, needed, f"a unit with exact sums of {features} features")

    def local_sums() -> dict[tuple[str, str], ExactSums]:
        result: dict[tuple[str, str], ExactSums] = {}
        local_groups = groups_of_rank(units, comm.rank, comm.size, copies)
        for key, groups in groupby(local_groups, lambda group: (group.name, group.role)):
            sums = _empty(features, classes, by_class, device)
            for group in groups:
                _add_group(sums, blocks(group.role, group.start, group.stop))
            result[key] = sums.on_host()
        return result

    local = agree(comm, local_sums)
    by_unit: dict[str, dict[str, ExactSums]] = {}
    for unit in units:
        sums = local.pop((unit.name, unit.role), None)
        if comm.size > 1:
            sums = _reduced(comm, sums or ExactSums.empty(features, classes, by_class))
        if comm.is_root and sums is not None:
            by_unit.setdefault(unit.name, {})[unit.role] = sums
    return {name: Unit(parts.get("train"), parts.get("validation")) for name, parts in by_unit.items()}


def _empty(features: int, classes: int, by_class: bool, device: torch.device | None) -> ExactSums | DeviceExactSums:
    if device is None:
        return ExactSums.empty(features, classes, by_class)
    return DeviceExactSums(features, classes, by_class, device)


def _add_group(sums: ExactSums | DeviceExactSums, blocks: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
    where = sums.xx.device if isinstance(sums, DeviceExactSums) else "cpu"
    # A block may be in a buffer that the next block overwrites; a float64 copy is not.
    sums.add_blocks([(states.to(where, torch.float64, copy=True), labels.cpu().numpy()) for states, labels in blocks])


def _reduced(comm: Communicator, sums: ExactSums) -> ExactSums:
    """Return the sums over all ranks. Collective."""
    parts = []
    for name in PARTS:
        numbers = getattr(sums, name)
        parts.append(joined_numbers(comm.allreduce(split_numbers(numbers))).reshape(numbers.shape))
    return ExactSums(*parts)
