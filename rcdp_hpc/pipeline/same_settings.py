"""The check that all ranks of a job were started with the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rcdp_hpc.config import flatten
from rcdp_hpc.config.keys import marked_keys
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agreed, ranks_by_value

# What a program may show on rank 0 only.
NOT_COMPARED = ("run.progress",)
# Keys and ranks that a message names.
MOST_NAMED = 5


def refuse_different_settings(comm: Communicator, settings: Mapping[str, Any]) -> None:
    """Raise an error if ranks have different settings, of which only those of rank 0 would be used. Collective.

    Paths are not compared, since a folder may have another name on each node, nor is what only the terminal shows.

    Parameters
    ----------
    comm : Communicator
    settings : mapping
        Tree of settings of this rank.

    Raises
    ------
    InputError
        On all ranks; it names the keys, and the ranks with each value.
    """
    if comm.size == 1:
        return
    ignored = {*marked_keys("path"), *NOT_COMPARED}
    compared = {key: value for key, value in flatten(settings).items() if key not in ignored}
    text = json.dumps(compared, sort_keys=True, default=str)
    if len(set(comm.allgather(hashlib.sha256(text.encode()).hexdigest()))) == 1:
        return
    by_rank = [json.loads(other) for other in comm.allgather(text)]
    differing = sorted(
        key for key in set().union(*by_rank) if any(other.get(key) != by_rank[0].get(key) for other in by_rank)
    )
    named = "; ".join(f"{key} is {_values(key, by_rank)}" for key in differing[:MOST_NAMED])
    more = f"; and {len(differing) - MOST_NAMED} more keys differ" if len(differing) > MOST_NAMED else ""
    raise agreed(
        InputError(
            f"the settings differ between ranks: {named}{more}. Start every rank with the same configuration and the "
            "same --set."
        )
    )


def _values(key: str, by_rank: list[dict[str, Any]]) -> str:
    """Return each value of a key with the ranks that have it."""
    return ranks_by_value([repr(settings[key]) if key in settings else "not set" for settings in by_rank], MOST_NAMED)
