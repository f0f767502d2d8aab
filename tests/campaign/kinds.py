"""The table of all kinds of trials."""

from __future__ import annotations

from collections.abc import Mapping

from campaign import damage
from campaign.trial import Kind

KINDS: Mapping[str, Kind] = {
    "damage": Kind("one file of a run damaged", damage.damage, 0.5, runs=damage.RUNS),
}
