"""How many candidates of a search a rank evaluates at once: ``search.candidates_at_once = 0``.

On a CPU one after the other, since a batch is not faster there. On a GPU as many as fill it: up to 32, or fewer if
their estimated memory is more than a part of the device's, or if a smaller number divides a generation with fewer free
places. Ranks that share a GPU divide its memory. Otherwise the number does not depend on the ranks of the job, since
the last digits of results depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.config.rules import contradictions
from rcdp_hpc.reservoir.kept_steps import prepared_features
from rcdp_hpc.reservoir.kernels import kernel_class
from rcdp_hpc.reservoir.kernels.base import padded_length
from rcdp_hpc.reservoir.kernels.dense import DenseKernel
from rcdp_hpc.reservoir.reductions import feature_shape
from rcdp_hpc.reservoir.stacked import STACKED_ROWS
from rcdp_hpc.runtime.device import total_gpu_memory
from rcdp_hpc.search.evaluation.batched_left_out import LEVERAGE_ROWS
from rcdp_hpc.search.evaluation.batched_ridge import ROWS_AT_ONCE
from rcdp_hpc.search.evaluation.inner_folds import uses_one_pass
from rcdp_hpc.search.evaluation.ridge import uses_left_out
from rcdp_hpc.search.space import STATE_SET, with_values
from rcdp_hpc.search.state_sets import STATE_SETS

# More candidates at once are hardly faster: each product then fills a GPU.
LARGEST = 32
# Share of the device's memory that a batch may need; the rest is for libraries and for blocks that were freed.
MEMORY_SHARE = 0.6


def chosen_at_once(
    config: Config,
    shape: Sequence[int],
    train_rows: int,
    classes: int,
    unequal: bool,
    device: torch.device,
    sharing: int = 1,
) -> int:
    """Return the number of candidates at once for these settings, data and device.

    Parameters
    ----------
    config : Config
        With a kernel and batch rows.
    shape : sequence of int
        Steps and features of a sample that a candidate reads.
    train_rows : int
        Training rows of the data.
    classes : int
    unequal : bool
        Whether samples have different numbers of steps.
    device : torch.device
        What computes candidates.
    sharing : int
        Ranks that share the device, and divide its memory.
    """
    if device.type == "cpu" or unequal or not _stackable(config, device):
        return 1
    train = min(config.search.train_rows, train_rows)
    sizes = [
        batch_bytes(one, shape, train, config.search.validation_rows, classes) for one in _possible_settings(config)
    ]
    each, shared = max(sizes)
    room = int(MEMORY_SHARE * total_gpu_memory(device)) // sharing - shared
    most = max(1, min(LARGEST, room // each))
    population = config.search.population
    return math.ceil(population / math.ceil(population / most))


def _possible_settings(config: Config) -> list[Config]:
    """Return the configuration, or, if a state set is selected first, one for each set."""
    if config.search.method != "select":
        return [config]
    return [with_values(config, {STATE_SET: name}) for name in config.search.state_sets or STATE_SETS]


def _stackable(config: Config, device: torch.device) -> bool:
    """Return whether the rules and the kernel allow several candidates at once."""
    search = config.search.model_copy(update={"candidates_at_once": 2})
    if next(contradictions(config.model_copy(update={"search": search})), None) is not None:
        return False
    return issubclass(kernel_class(str(config.reservoir.kernel)).for_device(device), DenseKernel)


def batch_bytes(
    config: Config, shape: Sequence[int], train_rows: int, validation_rows: int, classes: int
) -> tuple[int, int]:
    """Return an estimate of the bytes on the device for each candidate of a batch, and for all of them together.

    For each candidate it is the larger of the matrices in float64 with two of their powers, and of weights, states, a
    block of states in progress, and the rows or sums of the solution. All candidates share the sequences and the
    random numbers of the connections.

    Parameters
    ----------
    config : Config
    shape : sequence of int
        Steps and features of a sample.
    train_rows, validation_rows, classes : int
    """
    reservoir, steps = config.reservoir, shape[0]
    nodes, inputs = reservoir.nodes, prepared_features(reservoir, shape[1])
    width = feature_shape(reservoir, steps).features
    size = kernel_class(str(reservoir.kernel)).dtype.itemsize
    rows, length = train_rows + validation_rows, padded_length(nodes + inputs + 1)
    block = min(max(reservoir.batch_rows, STACKED_ROWS), rows)
    running = block * (length * size + nodes * (size + 2 * 4) + width * size)
    left_out = uses_left_out(config, rows, width)
    small = min(rows, width) if left_out else width
    # Every fold has sums of its own, which are overwritten by their solution.
    matrices = 5 if left_out or not uses_one_pass(config) else 5 + config.search.folds
    solution = 8 * matrices * small**2 + 8 * ROWS_AT_ONCE * (width + classes)
    if left_out:
        copies = 4 if config.search.folds > 1 else 3
        solution += 8 * (rows * (copies * width + 6 * classes) + min(rows, LEVERAGE_ROWS) * width)
    gathered = rows if left_out or config.search.folds > 1 else validation_rows
    states = (3 if uses_one_pass(config) else 2) * gathered * width * size + 4 * gathered * width
    weights = nodes * length * size
    each = max(3 * 8 * nodes**2, weights + max(running + states, states + solution))
    return each, 16 * nodes**2 + 4 * rows * (steps * inputs + classes)
