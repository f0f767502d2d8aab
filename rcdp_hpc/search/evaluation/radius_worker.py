"""A process that computes spectral radii for a rank: ``python -m rcdp_hpc.search.evaluation.radius_worker``.

It writes `READY`, then reads lines with seed, nodes and number of connections, and answers each with the radius, or "-"
if there is none. It ends when its input does; signals are for the rank.
"""

from __future__ import annotations

import signal
import sys

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.search.evaluation.candidate import FAILURES
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache

READY = "ready"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main() -> None:
    """Answer until the input ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    cache = MatrixCache(max_bytes=0)
    print(READY, flush=True)
    for line in sys.stdin:
        seed, nodes, count = map(int, line.split())
        print(_answer(cache, seed, nodes, count), flush=True)


def _answer(cache: MatrixCache, seed: int, nodes: int, count: int) -> str:
    """Return the radius to the last bit, or "-": the rank then meets the same failure, and reports it."""
    try:
        _, radius = cache.unscaled(ReservoirSection(seed=seed, nodes=nodes, density=count / nodes**2))
    except FAILURES:
        return "-"
    return "-" if radius is None else radius.hex()


if __name__ == "__main__":
    main()
