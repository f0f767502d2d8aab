"""The solution of a ridge readout whose exact sums are kept (``readout.keep_sums``), on all ranks."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from rcdp_hpc.config import Config, settings_that_matter, to_tree
from rcdp_hpc.data.like import FACTS
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.shards.repair import replaced_files
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.calibration.scores import HeldOutScores
from rcdp_hpc.networks.learned_source import learned_of
from rcdp_hpc.reservoir.device_sums import sums_device
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.reservoir.matrix_files import original_of
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import MIB, machine_memory
from rcdp_hpc.training.held_out_scores import solved_scores
from rcdp_hpc.training.solve.exact_sums import sums_bytes
from rcdp_hpc.training.solve.kept_sums import KeptSums, SumsFacts, sums_path
from rcdp_hpc.training.solve.solver import Solution
from rcdp_hpc.training.solve.sums_fit import SumsFit, fit_sums
from rcdp_hpc.training.solve.unit_sums import StateBlocks, UnitRows, groups_of_rank, sum_units, unit_rows
from rcdp_hpc.training.states.cache import SplitRows, state_blocks
from rcdp_hpc.training.states.shifts import shifts_within

log = logging.getLogger(__name__)

DOING = "summing reservoir states"
# Settings that decide features and readout. Of [readout], these two do not: they say what is kept, and what is summed.
SECTIONS = ("reservoir", "extractor", "augment", "readout", "loss")
NOT_DECISIVE = ("keep_sums", "without_units")


def solve_keeping_sums(
    config: Config, comm: Communicator, shards: ShardReader, reservoir: StateSource, progress: Progress
) -> tuple[Solution, KeptSums | None]:
    """Sum the rows of each unit, and solve the readout from the sums. Collective.

    Returns
    -------
    Solution
        The same bits on every rank, and for any number of ranks.
    KeptSums or None
        The sums, on rank 0.

    Raises
    ------
    InputError
        If shards were repaired with other rows, a unit of ``readout.without_units`` is not there, or the sums need more
        memory than there is.
    CandidateError
        If features are not finite, or too large for exact sums.
    """
    units = agree(comm, lambda: _units(config, shards, reservoir.width))
    blocks = blocks_of(config, shards, reservoir, progress)
    sizes = reservoir.width, len(shards.classes), weighs_classes(config)
    by_unit = sum_units(comm, units, blocks, *sizes, copies_of(config), sums_device(reservoir.device))
    kept: list[KeptSums] = []

    def solved() -> SumsFit:
        facts = facts_of(config, shards, reservoir)
        kept.append(KeptSums(facts, by_unit))
        return fit_sums(kept[0], config)

    fit = run_on_root(comm, solved)
    held = [unit for unit in units if unit.role == "validation"]
    scored, accuracy = _validation_scores(comm, held, blocks, fit, sizes[1])
    held_out = None if scored is None else scored.smoothed(config.loss.label_smoothing)
    listed = ", ".join(f"{penalty:g}: {fit.errors[penalty]:.4g}" for penalty in sorted(fit.errors))
    log.info("ridge: squared error on validation after scaling, by penalty, from sums: %s", listed)
    weights = fit.weights()
    by = "validation"
    solution = Solution(weights, fit.readout.scores, accuracy, by, by, (fit.penalty,), held_out)
    return solution, with_weights(kept[0], weights) if kept else None


def blocks_of(config: Config, shards: SplitRows, reservoir: StateSource, progress: Progress) -> StateBlocks:
    """Return what computes the states of some rows of a split, with the shifted copies of training rows."""
    shifts = shifts_within(config.augment.shifts)

    def blocks(split: str, start: int, stop: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        copies = shifts if split == "train" else shifts[:1]
        for _, states, labels in state_blocks(reservoir, shards, split, start, stop, progress, DOING, shifts=copies):
            yield states, labels

    return blocks


def copies_of(config: Config) -> int:
    """Return how often each training row is summed: once, or once for each shift of an image."""
    return len(shifts_within(config.augment.shifts))


def weighs_classes(config: Config) -> bool:
    """Return whether the weight of a row depends on the number of rows of its class."""
    return config.loss.class_weights != "none"


def facts_of(config: Config, shards: ShardReader, reservoir: StateSource) -> SumsFacts:
    """Return what the sums of a run belong to."""
    tree, index = to_tree(config), shards.index
    return SumsFacts(
        classes=list(shards.classes),
        features=reservoir.width,
        by_class=weighs_classes(config),
        settings=deciding_settings(config),
        preparation={**{key: index.get(key) for key in FACTS}, "storage": index["storage"]["kind"]},
        learned=tensors_digest(learned_of(reservoir)),
        reading={"data": tree["data"], "run": tree["run"], "separate_test": index.get("separate_test")},
        shards=[shards.digest],
    )


def deciding_settings(config: Config) -> dict[str, object]:
    """Return the settings that decide features and readout."""
    settings = settings_that_matter(config, SECTIONS)
    for key in NOT_DECISIVE:
        del settings["readout"][key]
    if config.reservoir.matrices:
        # Each run has a copy of the file, in its folder.
        settings["reservoir"]["matrices"] = original_of(Path(config.reservoir.matrices))
    return {**settings, "run": {"seed": config.run.seed}}


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of tensors and their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous().numpy()
        digest.update(repr((name, value.shape, value.dtype.str)).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def with_weights(kept: KeptSums, weights: Mapping[str, torch.Tensor]) -> KeptSums:
    """Return sums that record the digest of the weights that are solved from them."""
    facts = SumsFacts(**{**vars(kept.facts), "weights": tensors_digest(weights)})
    return KeptSums(facts, kept.by_unit, kept.where)


def write_sums(kept: KeptSums, model: Path) -> None:
    """Write the sums next to a model file, and log their size."""
    path = sums_path(model)
    kept.write(path)
    log.info("%s: the exact sums of %d units, %.1f MiB", path, len(kept.units), path.stat().st_size / MIB)


def _units(config: Config, shards: ShardReader, width: int) -> list[UnitRows]:
    replaced = replaced_files(shards)
    if replaced:
        raise InputError(
            f"readout.keep_sums: rows of {', '.join(replaced)} were replaced by synthetic rows, which belong to no "
            "unit. Prepare again (rcdp prepare --restart)."
        )
    units = unit_rows(shards.index, config.readout.without_units)
    size = len(units) * sums_bytes(width, len(shards.classes), weighs_classes(config))
    names = {unit.name for unit in units}
    log.info("readout.keep_sums: the exact sums of %d units need %.1f MiB", len(names), size / MIB)
    if size > machine_memory() // 2:
        raise InputError(
            f"readout.keep_sums: the sums of {len(names)} units need {size // MIB} MiB, more than half of this "
            "machine's memory: make fewer units (data.shards, data.unit_pattern), or lower reservoir.nodes."
        )
    return units


def _validation_scores(
    comm: Communicator, units: list[UnitRows], blocks: StateBlocks, fit: SumsFit, classes: int
) -> tuple[HeldOutScores | None, float]:
    """Return scores of validation rows by the readout of the training rows, on rank 0, and its accuracy. Collective."""
    groups = groups_of_rank(units, comm.rank, comm.size)
    partitions = (blocks(group.role, group.start, group.stop) for group in groups)
    correct = np.zeros(2)
    scored = solved_scores(comm, partitions, fit.trained.predict, classes, correct)
    right, rows = comm.allreduce(correct).tolist()
    return scored, float(right / rows)
