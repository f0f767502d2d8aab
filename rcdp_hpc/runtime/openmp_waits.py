"""Shorter spinning of waiting OpenMP threads, set before torch, scikit-learn or another library loads OpenMP.

An OpenMP thread that waits for the others spins before it sleeps; GNU OpenMP's spins for about 10 ms. On an otherwise
idle machine this saves a little time at each parallel step. If another process needs the core, all threads wait for the
spinning one, and trainings that share a machine take several times as long (benchmarks/busy_machine.py).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger(__name__)

# If the user has set one of these variables, nothing is changed.
USER_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
# For GNU OpenMP, a hundredth of its default, about 0.1 ms: training steps wait less than that, and without any spinning
# an idle machine is up to a fifth slower. LLVM's and Intel's OpenMP count in ms (default 200) and were not measured.
DEFAULTS = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
_LIBRARIES = ("libgomp", "libiomp", "libomp")

_loaded_before = False


def shorten_waits(environ: MutableMapping[str, str] | None = None) -> bool:
    """Make waiting OpenMP threads sleep soon, unless the environment has settings for their waits.

    Child processes inherit the settings.

    Parameters
    ----------
    environ : mutable mapping, optional
        Default: the environment of this process.

    Returns
    -------
    bool
        Whether variables were set.
    """
    global _loaded_before
    environ = os.environ if environ is None else environ
    if any(environ.get(name) for name in USER_SETTINGS):
        return False
    _loaded_before = openmp_is_loaded()
    environ.update(DEFAULTS)
    return True


def openmp_is_loaded(maps: Path = Path("/proc/self/maps")) -> bool:
    """Return whether this process has loaded an OpenMP library, or torch if `maps` cannot be read."""
    try:
        text = maps.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "torch" in sys.modules
    return any(f"/{name}" in text for name in _LIBRARIES)


def report_long_waits(threads: int) -> None:
    """Log a remedy, once, if OpenMP was loaded before `shorten_waits` and several threads are used."""
    global _loaded_before
    if not _loaded_before or threads < 2:
        return
    _loaded_before = False
    settings = " ".join(f"{name}={value}" for name, value in DEFAULTS.items())
    log.warning(
        "OpenMP was loaded before rcdp_hpc (by torch or scikit-learn), so its threads spin while they wait. If other "
        "programs use this machine, %d threads can be several times slower. Import rcdp_hpc first, or start with "
        "%s python ...",
        threads, settings,
    )  # fmt: skip
