"""What the communicators of MPI and torchrun have in common when a wait for other ranks is too long."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rcdp_hpc.errors import StageFailedError

# A rank whose wait is too long asks all ranks whether they wait as well, and listens for answers for this long, or for
# a tenth of the wait if that is longer.
ROLL_CALL_SECONDS = 5.0


def listening_seconds(waited: float) -> float:
    """Return how many seconds a rank listens for answers after it has waited for this many."""
    return max(ROLL_CALL_SECONDS, waited / 10)


def raise_missing(missing: Sequence[tuple[int, str]], waited: float, is_lowest: bool) -> None:
    """Raise an error that names the ranks that do not answer; return if there are none.

    Parameters
    ----------
    missing : sequence of (int, str)
        Rank in the job and host of each of them.
    waited : float
        Seconds that this rank has waited.
    is_lowest : bool
        Whether this is the lowest waiting rank, which reports the error and ends the job. The others give it time to do
        so before they raise theirs.

    Raises
    ------
    StageFailedError
        If a rank is missing.
    """
    if not missing:
        return
    if not is_lowest:
        time.sleep(2 * listening_seconds(waited))
    names = ", ".join(f"rank {rank} (host {host})" for rank, host in missing)
    raise StageFailedError(
        f"waited {waited:.0f} s for all ranks, and {names} did not arrive. See what it is doing (py-spy, the node's "
        "log), or increase run.stall_seconds."
    )
