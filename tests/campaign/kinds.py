"""The table of all kinds of trials."""

from __future__ import annotations

from collections.abc import Mapping

from campaign import damage, hostile
from campaign.trial import Kind

KINDS: Mapping[str, Kind] = {
    "damage": Kind("one file of a run damaged, then a command that reads it", damage.damage, 0.5, runs=damage.RUNS),
    "hostile": Kind(
        "data that are damaged or mean harm, for every reader",
        hostile.hostile,
        0.35,
        runs=("table", "series", "images"),
    ),
}
