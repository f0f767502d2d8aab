"""Which kernel, and which block of samples, computes the states fastest on this machine.

The choice changes the last digits of results: it is made once per run, on one rank, and recorded in RUN/config.toml.
What was measured is saved in a cache file, so that a machine is measured once for a size.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import RcdpError
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kernels import kernel_class, kernel_names
from rcdp_hpc.reservoir.precision import ERROR_RATIO_AT_MOST, STATE_ERROR_AT_MOST, Rounding
from rcdp_hpc.reservoir.states import DEFAULT_BATCH_ROWS, Reservoir
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.processor import processor_name
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

CLEARLY_FASTER = 1.2
ROWS_AT_MOST = 512
# A kernel for sparse matrices takes the block of this one.
UNMEASURED_AS = "dense-fp32"
STEPS = 2
TURNS_AT_MOST = 8
SECONDS_AT_MOST = 0.25
BLOCKS = {"cpu": (512, 1024, 2048), "cuda": (2048, 8192)}
# No block takes less or more to compute: other times were never measured.
LEAST_SECONDS, MOST_SECONDS = 1e-9, 1e6
# A larger block costs memory: it must be faster by so much.
BLOCK_FASTER = 1.05


def choose_kernel(
    nodes: int,
    features: int,
    batch_rows: int,
    threads: int,
    device: str = "cpu",
    density: float = 1.0,
    cache: Path | None = None,
    rounding: Callable[[str], Rounding] | None = None,
) -> str:
    """Measure the kernels for a moment and return the one to use.

    float32 is more accurate, so a kernel of 16 bits is taken only where it is at least 1.2 times as fast and its
    rounding is not visible, and the log names its precision. Large reservoirs and blocks are measured at a smaller
    size, which keeps the measurement short. Make the choice once per run, on one rank, and record it.

    Parameters
    ----------
    nodes, features, batch_rows : int
        Size of the reservoir, features per step, samples computed at once (0: the default).
    threads : int
        Threads that the states will be computed with.
    device : str
        A torch device.
    density : float
        Connection density; thin reservoirs are tried with the sparse kernel too.
    cache : Path, optional
        Where measurements are saved (see `default_cache`); default: nowhere.
    rounding : callable, optional
        Returns what the rounding of a kernel does to the reservoir at hand (see `rcdp_hpc.reservoir.precision`);
        default: nothing is known of it, and speed decides.

    Returns
    -------
    str
        A name of `rcdp_hpc.config.choices.KERNELS`.
    """
    kernels = _measured_kernels(nodes, density, device)
    nodes = min(nodes, max(kernel_class(kernel).measured_nodes for kernel in kernels))
    rows = min(batch_rows or DEFAULT_BATCH_ROWS, ROWS_AT_MOST)
    key = f"kernel {nodes} nodes {density:.3g} density {features} features {rows} rows {threads} threads"
    seconds = _remembered(cache, device, key)
    if seconds is None or set(seconds) != set(kernels):
        block = torch.from_numpy(np.random.default_rng(0).random((rows, STEPS, features), dtype=np.float32))
        with limit_threads(threads):
            reservoirs = [_sample_reservoir(nodes, features, density, kernel, rows, device) for kernel in kernels]
            seconds = dict(zip(kernels, _fastest(reservoirs, block), strict=True))
        _remember(cache, device, key, seconds)
    exact = min((name for name in seconds if _is_exact(name)), key=lambda name: seconds[name])
    half = min((name for name in seconds if not _is_exact(name)), key=lambda name: seconds[name])
    choice = half if seconds[exact] >= CLEARLY_FASTER * seconds[half] else exact
    if choice == half and rounding is not None and _is_visible(rounding(half), half, exact):
        choice = exact
    log.info(
        "reservoir kernel: %s (%d nodes, blocks of %d samples, %d thread%s)",
        choice, nodes, rows, threads, "" if threads == 1 else "s",
    )  # fmt: skip
    log.info("  %s a step", ", ".join(f"{name} {1000 * value / STEPS:.2f} ms" for name, value in seconds.items()))
    return choice


def _is_visible(found: Rounding, kernel: str, exact: str) -> bool:
    """Return whether a kernel's rounding forbids to take it unasked, and log it."""
    if not np.isfinite([found.state_error, found.error_ratio]).all():
        log.info("reservoir.kernel = auto takes %s: %s gives no finite states to compare", exact, kernel)
        return True
    if found.visible:
        log.warning(
            "reservoir.kernel = auto does not take the faster %s: on training rows its rounding changes the states by "
            "%.3g of their spread (at most %g) and the ridge readout's error by a factor of %.3g (at most %g). %s is "
            "taken; name the kernel if you want it all the same",
            kernel, found.state_error, STATE_ERROR_AT_MOST, found.error_ratio, ERROR_RATIO_AT_MOST, exact,
        )  # fmt: skip
    return found.visible


def choose_batch_rows(
    nodes: int, features: int, kernel: str, threads: int, device: str = "cpu", cache: Path | None = None
) -> int:
    """Return the smallest block that is within 5 % of the fastest. Parameters as `choose_kernel`."""
    if not kernel_class(kernel).dense_weights:
        kernel = UNMEASURED_AS  # blocks are measured with density 1
    nodes = min(nodes, kernel_class(kernel).measured_nodes)
    blocks = BLOCKS["cpu" if torch.device(device).type == "cpu" else "cuda"]
    key = f"block {nodes} nodes {features} features {kernel} {threads} threads"
    seconds = _remembered(cache, device, key)
    if seconds is None or set(seconds) != {str(rows) for rows in blocks}:
        seconds = {}
        with limit_threads(threads):
            for rows in blocks:
                block = torch.from_numpy(np.random.default_rng(0).random((rows, STEPS, features), dtype=np.float32))
                reservoir = _sample_reservoir(nodes, features, 1.0, kernel, rows, device)
                seconds[str(rows)] = _fastest([reservoir], block)[0] / rows
        _remember(cache, device, key, seconds)
    least = min(seconds.values())
    choice = next(rows for rows in blocks if seconds[str(rows)] <= BLOCK_FASTER * least)
    log.info("reservoir.batch_rows = %d, measured among %s", choice, ", ".join(map(str, blocks)))
    return choice


def machine_name(device: str = "cpu") -> str:
    """Return what decides a measurement: processor or GPU, and torch's version."""
    name = torch.cuda.get_device_name(torch.device(device)) if torch.device(device).type == "cuda" else processor_name()
    return f"{name}, torch {torch.__version__}"


def default_cache() -> Path:
    """Return the file in which measurements are saved, in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(folder) / "rcdp_hpc" / "kernels.json"


def _measured_kernels(nodes: int, density: float, device: str) -> list[str]:
    """Return the kernels of the table that are measured for such a reservoir, in the table's order."""
    return [name for name in kernel_names() if kernel_class(name).is_measured(nodes, density, torch.device(device))]


def _is_exact(kernel: str) -> bool:
    """Return whether a kernel computes in float32."""
    return kernel_class(kernel).dtype == torch.float32


def _sample_reservoir(nodes: int, features: int, density: float, kernel: str, rows: int, device: str) -> Reservoir:
    """Return a reservoir of this size that costs no eigenvalues."""
    settings = ReservoirSection.model_validate({"nodes": nodes, "batch_rows": rows})
    generator = np.random.default_rng(0)
    count = max(1, round(density * nodes))
    columns = generator.integers(0, nodes, (nodes, count)).astype(np.int32).ravel()
    data = generator.standard_normal(nodes * count) * (0.9 / np.sqrt(count))
    recurrent = scipy.sparse.csr_array((data, columns, np.arange(nodes + 1) * count), shape=(nodes, nodes))
    recurrent.sum_duplicates()
    weights = generator.uniform(-1, 1, (nodes, features))
    return Reservoir(settings, features, kernel, device, ReservoirMatrices(recurrent, weights, np.zeros(nodes)))


def _remembered(cache: Path | None, device: str, key: str) -> dict[str, float] | None:
    """Return what was measured before; if it cannot be that, it is measured again, which is logged."""
    if cache is None or not os.path.lexists(cache):
        return None
    try:
        content = read_sealed(cache)
        found = content.get(machine_name(device), {}).get(key)
        if found is None:
            return None
        seconds = {str(name): float(value) for name, value in found.items()}
        if not all(LEAST_SECONDS <= value <= MOST_SECONDS for value in seconds.values()):
            raise ValueError("a time that cannot have been measured")
        return seconds
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RcdpError) as error:
        log.info("%s: not used, the reservoir's kernels are measured again (%s)", cache, error)
        return None


def _remember(cache: Path | None, device: str, key: str, seconds: dict[str, float]) -> None:
    if cache is None:
        return
    try:
        content = read_sealed(cache)
    except (OSError, RcdpError):
        content = {}
    machine = machine_name(device)
    if not isinstance(content.get(machine), dict):
        content[machine] = {}
    content[machine][key] = seconds
    try:
        write_sealed(cache, content)
    except (OSError, RcdpError) as error:  # a home that cannot be written to costs a measurement per run, no more
        log.debug("%s: not written (%s)", cache, error)


def _fastest(reservoirs: list[Reservoir], block: torch.Tensor) -> list[float]:
    """Return each reservoir's shortest time over the block, in seconds.

    They take turns, so that a disturbance from outside hits all of them; the first turn warms up.
    """
    best = [float("inf")] * len(reservoirs)
    ends = time.perf_counter() + SECONDS_AT_MOST
    for turn in range(1 + TURNS_AT_MOST):
        for place, reservoir in enumerate(reservoirs):
            started = time.perf_counter()
            reservoir.states(block)
            if reservoir.device.type == "cuda":
                torch.cuda.synchronize(reservoir.device)
            elapsed = time.perf_counter() - started
            best[place] = min(best[place], elapsed) if turn > 1 else elapsed
        if turn > 0 and time.perf_counter() > ends:
            break
    return best
