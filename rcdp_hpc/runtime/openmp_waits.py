"""How threads of OpenMP wait for one another: set before torch, scikit-learn or another library loads OpenMP.

A thread that waits for the others spins before it sleeps, GNU OpenMP's for some 10 ms. On a machine of its own that
saves a little at each parallel step. If another process wants the core, everyone waits for the spinning thread, and
trainings that share a machine take several times as long (benchmarks/busy_machine.py).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger(__name__)

# What a user may have set already: then nothing is changed.
USER_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
# A hundredth of GNU OpenMP's own spins, some 0.1 ms: steps of a training wait less than that, and no spins at all cost
# a quiet machine up to a fifth. LLVM's and Intel's OpenMP count in ms (200 by default), and were not measured.
DEFAULTS = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
_LIBRARIES = ("libgomp", "libiomp", "libomp")

_loaded_before = False


def shorten_waits(environ: MutableMapping[str, str] | None = None) -> bool:
    """Let OpenMP's threads sleep soon while they wait, unless the environment already says how they wait.

    Child processes inherit the settings.

    Parameters
    ----------
    environ : mutable mapping, optional
        Default: this process's environment.

    Returns
    -------
    bool
        Whether something was set.
    """
    global _loaded_before
    environ = os.environ if environ is None else environ
    if any(environ.get(name) for name in USER_SETTINGS):
        return False
    _loaded_before = openmp_is_loaded()
    environ.update(DEFAULTS)
    return True


def openmp_is_loaded(maps: Path = Path("/proc/self/maps")) -> bool:
    """Tell whether a library of OpenMP is in this process; without `maps`, whether torch is."""
    try:
        text = maps.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "torch" in sys.modules
    return any(f"/{name}" in text for name in _LIBRARIES)


def report_long_waits(threads: int) -> None:
    """Log how to set the waits if OpenMP had read its settings before `shorten_waits`; one thread waits for nobody."""
    global _loaded_before
    if not _loaded_before or threads < 2:
        return
    _loaded_before = False
    settings = " ".join(f"{name}={value}" for name, value in DEFAULTS.items())
    log.warning(
        "OpenMP was loaded before rcdp_hpc (by torch or scikit-learn), so its threads spin while they wait: next to "
        "other work on this machine, %d threads can be several times slower. Import rcdp_hpc first, or start with "
        "%s python ...",
        threads, settings,
    )  # fmt: skip
