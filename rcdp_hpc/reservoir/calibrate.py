"""Which kernel computes the states fastest on this machine."""

from __future__ import annotations

import logging
import time

import numpy as np
import scipy.sparse
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.states import Kernel, Reservoir
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

CLEARLY_FASTER = 1.2
NODES_AT_MOST = 1000
ROWS_AT_MOST = 512
STEPS = 2
TURNS_AT_MOST = 8
SECONDS_AT_MOST = 0.25


def choose_kernel(nodes: int, features: int, batch_rows: int, threads: int, device: str = "cpu") -> Kernel:
    """Measure both kernels for a moment and return the one to use.

    float32 is more accurate, so bfloat16 is taken only where it is at least 1.2 times as fast. Large
    reservoirs and blocks are measured at a smaller size, which keeps the measurement below half a second.
    The choice changes results: make it once per run, on one rank, and record it.

    Parameters
    ----------
    nodes, features, batch_rows : int
        Size of the reservoir, features per step, samples computed at once.
    threads : int
        Threads that the states will be computed with.
    device : str
        A torch device.

    Returns
    -------
    {"dense-fp32", "dense-bf16"}
    """
    nodes, rows = min(nodes, NODES_AT_MOST), min(batch_rows, ROWS_AT_MOST)
    settings = ReservoirSection.model_validate({"nodes": nodes, "batch_rows": rows})
    generator = np.random.default_rng(0)
    weights = generator.standard_normal((nodes, nodes), dtype=np.float32) * (0.9 / np.sqrt(nodes))
    matrices = ReservoirMatrices(
        scipy.sparse.csr_array(weights), generator.uniform(-1, 1, (nodes, features)), np.zeros(nodes)
    )
    block = torch.from_numpy(generator.random((rows, STEPS, features), dtype=np.float32))
    kernels: list[Kernel] = ["dense-fp32", "dense-bf16"]
    with limit_threads(threads):
        reservoirs = [Reservoir(settings, features, kernel, device, matrices) for kernel in kernels]
        single, half = _fastest(reservoirs, block)
    choice = kernels[single >= CLEARLY_FASTER * half]
    log.info(
        "reservoir kernel %s: a step of %d samples, %d nodes and %d threads takes %.2f ms in float32 and "
        "%.2f ms in bfloat16",
        *(choice, rows, nodes, threads, 1000 * single / STEPS, 1000 * half / STEPS),
    )
    return choice


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
