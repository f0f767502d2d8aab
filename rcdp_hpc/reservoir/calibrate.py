"""Measurements that choose the fastest kernel and block of samples on the device that computes the states.

The choice changes the last digits of results: rank 0 makes it once per run and records it in RUN/config.toml. The
measured times are stored in a cache file, so that each size is measured once per machine.
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
from rcdp_hpc.reservoir.kernels.slots import SLOT_BYTES
from rcdp_hpc.reservoir.precision import LARGEST_ERROR_RATIO, LARGEST_STATE_ERROR, Rounding
from rcdp_hpc.reservoir.sequence_checks import CollectedChecks
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.device import free_gpu_memory
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.processor import processor_name
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

# A kernel of 16 bits must be faster than float32 by this factor.
CLEARLY_FASTER = 1.2
# By kind of device. Samples of the block with which kernels are measured, at most: a GPU is idle with few.
LARGEST_BLOCK = {"cpu": 512, "cuda": 8192}
# Steps of a measured block: a GPU also needs time to start one.
STEPS = {"cpu": 2, "cuda": 8}
# Turns before the first one that counts: a GPU chooses and loads its programs, and takes memory.
WARM_UPS = {"cpu": 1, "cuda": 2}
# Numbers of samples that are tried as a block. Those that do not fit are halved.
BLOCKS = {"cpu": (512, 1024, 2048), "cuda": (2048, 8192, 16384, 32768)}
SMALLEST_BLOCK = 512
# Share of a GPU's free memory that a block may take: the states that are kept need the rest.
BLOCK_SHARE = 0.25
# Samples of a block for a GPU, as float32 in the memory of the host, which reads some blocks ahead.
SAMPLE_BYTES = 1 << 28
# Blocks of a kernel for sparse matrices are measured with this kernel, since the measured matrices are dense.
BLOCKS_MEASURED_BY = "dense-fp32"
LARGEST_TURNS = 8
LARGEST_SECONDS = 0.25
# Times of a block outside of these bounds are damage in the cache.
SHORTEST_TIME, LONGEST_TIME = 1e-9, 1e6
# The fastest block must be faster than a smaller one, which needs less memory, by this factor.
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
    """Measure the kernels of the table on a device for less than a second and return the one to use.

    float32 is more accurate: a kernel of 16 bits is chosen only if it is at least 1.2 times as fast and its rounding is
    not visible. Large reservoirs and blocks are measured at a smaller size. Call this once per run, on one rank, and
    record the result.

    Parameters
    ----------
    nodes : int
    features : int
        Features per step.
    batch_rows : int
        Samples computed at once; 0 if that is measured later.
    threads : int
        Threads that will compute the states.
    device : str
        A torch device.
    density : float
        Connection density: sparse kernels are measured for large sparse reservoirs.
    cache : Path, optional
        File with measured times (see `default_cache`); by default times are not stored.
    rounding : callable, optional
        Returns the `rcdp_hpc.reservoir.precision.Rounding` of a kernel's name; by default only speed decides.

    Returns
    -------
    str
        A name of `rcdp_hpc.config.choices.KERNELS`.
    """
    kernels, kind = _measured_kernels(nodes, density, device), _kind(device)
    nodes = min(nodes, max(kernel_class(kernel).measured_nodes for kernel in kernels))
    rows = min(batch_rows or LARGEST_BLOCK[kind], LARGEST_BLOCK[kind])
    key = f"kernel {nodes} nodes {density:.3g} density {features} features {rows} rows {threads} threads"
    seconds = _cached_times(cache, device, key)
    if seconds is None or set(seconds) != set(kernels):
        with limit_threads(threads):
            reservoirs = [_sample_reservoir(nodes, features, density, kernel, rows, device) for kernel in kernels]
            seconds = dict(zip(kernels, _fastest(reservoirs, _sample_block(rows, features, device)), strict=True))
        _store_times(cache, device, key, seconds)
    exact = min((name for name in seconds if _is_exact(name)), key=lambda name: seconds[name])
    half = min((name for name in seconds if not _is_exact(name)), key=lambda name: seconds[name])
    choice = half if seconds[exact] >= CLEARLY_FASTER * seconds[half] else exact
    if choice == half and rounding is not None and _is_visible(rounding(half), half, exact):
        choice = exact
    log.info(
        "reservoir kernel: %s (%d nodes, blocks of %d samples, %d thread%s)",
        choice, nodes, rows, threads, "" if threads == 1 else "s",
    )  # fmt: skip
    log.info(
        "  %s per step", ", ".join(f"{name} {1000 * value / STEPS[kind]:.2f} ms" for name, value in seconds.items())
    )
    return choice


def _is_visible(rounding: Rounding, kernel: str, exact: str) -> bool:
    """Return whether a kernel's rounding is visible in the results, and log it."""
    if not np.isfinite([rounding.state_error, rounding.error_ratio]).all():
        log.info("reservoir.kernel = auto chooses %s: %s has no finite states to compare", exact, kernel)
        return True
    if rounding.visible:
        log.warning(
            "reservoir.kernel = auto does not choose the faster %s: on training rows its rounding changes the states "
            "by %.3g of their standard deviation (limit %g) and the error of a ridge readout by a factor of %.3g "
            "(limit %g). It chooses %s; set reservoir.kernel = %s to use the faster one",
            kernel, rounding.state_error, LARGEST_STATE_ERROR, rounding.error_ratio, LARGEST_ERROR_RATIO, exact,
            kernel,
        )  # fmt: skip
    return rounding.visible


def choose_batch_rows(
    nodes: int,
    features: int,
    kernel: str,
    threads: int,
    device: str = "cpu",
    cache: Path | None = None,
    steps: int = 1,
    rows: int = 0,
) -> int:
    """Return the smallest block that is within 5 % of the fastest one; parameters as of `choose_kernel`.

    Parameters
    ----------
    steps : int
        Steps of a sequence.
    rows : int
        Samples that a rank computes; a GPU's blocks are smaller than twice this number. 0: unknown.
    """
    if not kernel_class(kernel).dense_weights:
        kernel = BLOCKS_MEASURED_BY
    blocks = _fitting_blocks(nodes, steps * features, rows, device)
    nodes = min(nodes, kernel_class(kernel).measured_nodes)
    key = f"block {nodes} nodes {features} features {kernel} {threads} threads"
    seconds = _cached_times(cache, device, key)
    if seconds is None or not {str(size) for size in blocks} <= set(seconds):
        measured = {} if seconds is None else seconds
        with limit_threads(threads):
            for size in blocks:
                reservoir = _sample_reservoir(nodes, features, 1.0, kernel, size, device)
                measured[str(size)] = _fastest([reservoir], _sample_block(size, features, device))[0] / size
        seconds = measured
        _store_times(cache, device, key, seconds)
    least = min(seconds[str(size)] for size in blocks)
    choice = next(size for size in blocks if seconds[str(size)] <= BLOCK_FASTER * least)
    log.info("reservoir.batch_rows = %d, measured among %s", choice, ", ".join(map(str, blocks)))
    return choice


def _fitting_blocks(nodes: int, numbers: int, rows: int, device: str) -> list[int]:
    """Return the blocks to measure, ascending; `numbers` are the input values of a sample.

    A block of a GPU needs memory for its slots, at least two, for float32 numbers of its states, and for its inputs.
    """
    where, blocks = torch.device(device), list(BLOCKS[_kind(device)])
    if where.type == "cuda":
        free = free_gpu_memory(where) * BLOCK_SHARE - SLOT_BYTES
        fitting = min(int(free / (4 * (4 * nodes + 3 * numbers))), SAMPLE_BYTES // (4 * numbers))
        blocks = [_halved(size, max(SMALLEST_BLOCK, fitting)) for size in blocks]
        if rows:
            blocks = [size for size in blocks if size < 2 * rows] or blocks[:1]
    return sorted(set(blocks))


def _halved(size: int, most: int) -> int:
    """Return a size, halved until it is at most `most`."""
    while size > most:
        size //= 2
    return size


def _kind(device: str) -> str:
    """Return the kind of a device in the tables of this module."""
    return "cpu" if torch.device(device).type == "cpu" else "cuda"


def machine_name(device: str = "cpu") -> str:
    """Return the name of the processor or GPU and torch's version, by which measured times are stored."""
    name = torch.cuda.get_device_name(torch.device(device)) if torch.device(device).type == "cuda" else processor_name()
    return f"{name}, torch {torch.__version__}"


def default_cache() -> Path:
    """Return the file with measured times in the user's cache folder."""
    folder = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(folder) / "rcdp_hpc" / "kernels.json"


def _measured_kernels(nodes: int, density: float, device: str) -> list[str]:
    """Return the kernels of the table that are measured for such a reservoir, in the table's order."""
    return [name for name in kernel_names() if kernel_class(name).is_measured(nodes, density, torch.device(device))]


def _is_exact(kernel: str) -> bool:
    """Return whether a kernel computes in float32."""
    return kernel_class(kernel).dtype == torch.float32


def _sample_reservoir(nodes: int, features: int, density: float, kernel: str, rows: int, device: str) -> Reservoir:
    """Return a reservoir of this size whose matrices need no eigenvalues."""
    settings = ReservoirSection.model_validate({"nodes": nodes, "batch_rows": rows})
    generator = np.random.default_rng(0)
    count = max(1, round(density * nodes))
    columns = generator.integers(0, nodes, (nodes, count)).astype(np.int32).ravel()
    data = generator.standard_normal(nodes * count) * (0.9 / np.sqrt(count))
    recurrent = scipy.sparse.csr_array((data, columns, np.arange(nodes + 1) * count), shape=(nodes, nodes))
    recurrent.sum_duplicates()
    weights = generator.uniform(-1, 1, (nodes, features))
    return Reservoir(settings, features, kernel, device, ReservoirMatrices(recurrent, weights, np.zeros(nodes)))


def _sample_block(rows: int, features: int, device: str) -> torch.Tensor:
    """Return random sequences on the device, so that copying them is not measured."""
    block = np.random.default_rng(0).random((rows, STEPS[_kind(device)], features), dtype=np.float32)
    return torch.from_numpy(block).to(device)


def _cached_times(cache: Path | None, device: str, key: str) -> dict[str, float] | None:
    """Return stored times; None, with a log line if they are damaged, if there are none."""
    if cache is None or not os.path.lexists(cache):
        return None
    try:
        content = read_sealed(cache)
        stored = content.get(machine_name(device), {}).get(key)
        if stored is None:
            return None
        seconds = {str(name): float(value) for name, value in stored.items()}
        if not all(SHORTEST_TIME <= value <= LONGEST_TIME for value in seconds.values()):
            raise ValueError("a time outside of plausible bounds")
        return seconds
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RcdpError) as error:
        log.info("%s: cannot be used (%s): the kernels are measured again", cache, error)
        return None


def _store_times(cache: Path | None, device: str, key: str, seconds: dict[str, float]) -> None:
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
    except (OSError, RcdpError) as error:  # without a writable home every run measures again
        log.debug("%s: not written (%s)", cache, error)


def _fastest(reservoirs: list[Reservoir], block: torch.Tensor) -> list[float]:
    """Return the shortest time of each reservoir over the block, in seconds.

    The reservoirs take turns, so that other load on the machine affects all of them. The first turns warm up. A GPU
    gets its work all at once, and is waited for before and after it.
    """
    best = [float("inf")] * len(reservoirs)
    warm_ups = WARM_UPS[_kind(str(block.device))]
    ends = time.perf_counter() + LARGEST_SECONDS
    for turn in range(warm_ups + LARGEST_TURNS):
        for number, reservoir in enumerate(reservoirs):
            checks: CollectedChecks[int] = CollectedChecks(block.device)
            _wait_for(block.device)
            started = time.perf_counter()
            with checks.collecting(number):
                reservoir.states(block)
            _wait_for(block.device)
            elapsed = time.perf_counter() - started
            best[number] = min(best[number], elapsed) if turn > warm_ups else elapsed
        if turn >= warm_ups and time.perf_counter() > ends:
            break
    return best


def _wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
