"""The table of all kinds of trials."""

from __future__ import annotations

from collections.abc import Mapping

from campaign import damage, disks, hostile, kills, races, ranks
from campaign.trial import LIMIT, Kind

KINDS: Mapping[str, Kind] = {
    "damage": Kind("damage of one file of a run, then a command that reads it", damage.damage, 0.5, runs=damage.RUNS),
    "hostile": Kind("damaged or malicious data", hostile.hostile, 0.3, runs=hostile.RUNS),
    "kills": Kind("signals at random moments, then a resume", kills.kill, 0.1, 12 * LIMIT, runs=kills.RUNS),
    "races": Kind("several commands at once in one run", races.race, 0.05, 8 * LIMIT, runs=races.RUNS),
    "stops": Kind(
        "one of two ranks stopped forever", ranks.stop, 0.004, 4 * ranks.START, ranks.cannot_start, ranks.RUNS
    ),
    "ranks": Kind(
        "a signal to one of two ranks, then a resume",
        ranks.kill_rank,
        0.004,
        6 * ranks.START,
        ranks.cannot_start,
        ranks.RUNS,
    ),
    "disks": Kind("a disk that is too small, then a resume", disks.small_disk, 0.03, 8 * LIMIT, runs=disks.RUNS),
    "filesystems": Kind(
        "another file system", disks.file_system, 0.02, 8 * LIMIT, needs=disks.cannot_mount, runs=kills.RUNS
    ),
}
