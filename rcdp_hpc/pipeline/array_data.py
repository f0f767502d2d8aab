"""Arrays that a Python program passes to a stage instead of the path of a file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcdp_hpc.config import Config, load_config
from rcdp_hpc.config.choices import ARRAYS
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.config.rules import contradictions
from rcdp_hpc.data.sources.in_memory import LabelledArrays
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, agreed
from rcdp_hpc.runtime.rundir import RunDirectory

Settings = Config | Mapping[str, Any] | str | Path

# The name of the array of groups in the data.
GROUPS = "groups"
# Bytes of one broadcast.
PIECE_BYTES = 2**26

_KEYS = ("x", "y", "lengths", "ids", "groups")
_FORMS = "expected data=(x, y), or a dict with x, y and, if needed, lengths, ids and groups"


def with_data(
    config: Settings, out: str | Path, data: Any, test: Any, comm: Communicator
) -> tuple[Config, LabelledArrays | None]:
    """Return the configuration and the arrays of a call. Collective.

    Parameters
    ----------
    config : Config, mapping, str or Path
        As in `rcdp_hpc.run`.
    out : str or Path
        The run directory.
    data, test : tuple (x, y), mapping or None
        As in `rcdp_hpc.run`.
    comm : Communicator

    Returns
    -------
    config : Config
        With ``data.source = "arrays"`` on every rank, if rank 0 has arrays, or the run directory was begun with arrays
        and `config` names no other data.
    arrays : LabelledArrays or None
        Those of this rank.

    Raises
    ------
    InputError
        On every rank, if the configuration names other data, or only other ranks than rank 0 have arrays.
    """
    arrays = agree(comm, lambda: labelled_arrays(data, test))
    given = comm.allgather(arrays is not None)
    groups = comm.broadcast(GROUPS if arrays is not None and arrays.has_groups else "")
    if any(given) and not given[0]:
        raise agreed(InputError(f"rank {given.index(True)} passes data, rank 0 does not: rank 0 prepares the shards."))
    earlier = comm.broadcast(agree_on_root(comm, lambda: None if given[0] else _groups_of_earlier(out)))
    resumed = earlier is not None
    return agree(comm, lambda: _config_of(config, given[0], resumed, earlier or groups)), arrays


def labelled_arrays(data: Any, test: Any = None) -> LabelledArrays | None:
    """Return the arrays that a caller gives; None if there are none.

    Parameters
    ----------
    data : tuple (x, y), mapping or None
    test : tuple (x, y), mapping or None

    Raises
    ------
    InputError
        If they have another form. The arrays themselves are checked when they are read.
    """
    if data is None:
        if test is not None:
            raise InputError("test = ... needs data=(x, y), the samples to train on.")
        return None
    return LabelledArrays(_part("data", data), None if test is None else _part("test", test))


def with_arrays(config: Config, groups: str = "") -> Config:
    """Return the configuration with ``data.source = "arrays"``.

    Parameters
    ----------
    config : Config
    groups : str
        ``data.group_name`` if the samples have groups, so that other settings fit them; empty otherwise.

    Raises
    ------
    InputError
        If the configuration names other data, or settings that contradict groups.
    """
    named = _named_data(config)
    if named:
        raise InputError(
            f"arrays are given, and the configuration names {named}: leave one out. With a profile: "
            f'load_config(..., data={{"source": "{ARRAYS}"}}).'
        )
    changes = {} if config.data.source == ARRAYS else {"source": ARRAYS}
    if groups and not config.data.names_groups:
        changes["group_name"] = groups
    if not changes:
        return config
    changed = config.model_copy(update={"data": config.data.model_copy(update=changes)})
    problem = next(contradictions(changed), None)
    if problem is not None:
        raise InputError(f"the data have groups, and {problem}.")
    return changed.with_chosen((config.chosen or frozenset()) | {f"data.{key}" for key in changes})


def arrays_of_root(comm: Communicator, arrays: LabelledArrays | None) -> LabelledArrays | None:
    """Return rank 0's arrays on every rank. Collective.

    Raises
    ------
    InputError
        On every rank, if they cannot be pickled.
    """

    def pickled() -> bytes:
        try:
            return pickle.dumps(arrays, protocol=5)
        except Exception as error:  # any class may take part
            raise InputError(f"data: cannot be sent to the other groups of ranks ({error})") from None

    data = agree_on_root(comm, pickled) if comm.size > 1 else None
    if comm.size == 1:
        return arrays
    size = comm.broadcast(len(data) if data is not None else 0)
    pieces = [comm.broadcast(data and data[start : start + PIECE_BYTES]) for start in range(0, size, PIECE_BYTES)]
    return arrays if comm.is_root else pickle.loads(b"".join(pieces))


def _groups_of_earlier(out: str | Path) -> str | None:
    """Return ``data.group_name`` of a run directory that was begun with arrays; None if there is none."""
    run = RunDirectory(absolute_path(out))
    data = run.config().data if run.config_file.exists() else None
    return data.group_name if data is not None and data.source == ARRAYS else None


def _config_of(config: Settings, has_arrays: bool, resumed: bool, groups: str) -> Config:
    if isinstance(config, Mapping):
        config = load_config(config)
    elif not isinstance(config, Config):  # a profile for other data keeps its other settings
        config = load_config(config, **({"data": {"source": ARRAYS}} if has_arrays else {}))
    return with_arrays(config, groups) if has_arrays or (resumed and not _named_data(config)) else config


def _named_data(config: Config) -> str:
    """Return the setting with which a configuration names other data than arrays; empty if there is none."""
    data, chosen = config.data, config.chosen
    if data.path:
        return f"data.path = {data.path!r}"
    if data.source == ARRAYS:
        return ""
    return f"data.source = {data.source!r}" if chosen is None or "data.source" in chosen else ""


def _part(name: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        unknown = [str(key) for key in value if key not in _KEYS]
        if unknown:
            raise InputError(f"{name}: unknown key {unknown[0]!r}; {_FORMS}.")
        if not {"x", "y"} <= set(value):
            raise InputError(f"{name}: key {'x' if 'x' not in value else 'y'} is missing; {_FORMS}.")
        return value
    if not isinstance(value, tuple | list) or len(value) != 2:
        what = f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
        raise InputError(f"{name}: {what}; {_FORMS}.")
    return {"x": value[0], "y": value[1]}
