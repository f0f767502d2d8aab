"""`rcdp update`: a readout solved from the rows of a model and new rows, on all ranks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from rcdp_hpc.config import Config
from rcdp_hpc.deploy.sums.merge import merged, with_global_names
from rcdp_hpc.deploy.sums.new_rows import NewRows, read_new_rows, recorded_config
from rcdp_hpc.deploy.sums.summed_model import (
    SummedModel,
    SumsResult,
    model_path,
    refuse_input_as_output,
    write_solution,
)
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.reservoir.device_sums import sums_device
from rcdp_hpc.reservoir.identity_source import StateSource
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.threads import limit_threads, threads_per_rank
from rcdp_hpc.training.solve.kept_solve import blocks_of, copies_of
from rcdp_hpc.training.solve.kept_sums import KeptSums, SumsFacts, Unit
from rcdp_hpc.training.solve.unit_sums import sum_units, unit_rows


def update_model(
    model: Path,
    new_data: Path,
    to: Path,
    comm: Communicator,
    unit: str = "",
    allow_code: bool = False,
    progress: bool = False,
) -> SumsResult:
    """Solve a readout from the rows of a model and those of new data, and write it. Collective.

    The result has the bits of a training on the union of the units, with the extractor, standardisation and classes of
    the model.

    Parameters
    ----------
    model : Path
        A run directory or a model file.
    new_data : Path
        File or folder of labelled samples, of the source that the model was trained on.
    to : Path
        The model file; the sums are written next to it.
    comm : Communicator
    unit : str
        Name of the unit of the new rows, if the model has no ``data.unit_pattern``; default: the name of the file.
    allow_code : bool
        Import classes of the user that the model names.
    progress : bool

    Raises
    ------
    InputError
        If the model has no sums, the new data do not fit it, or a unit of them is in the model already.
    DataDamagedError
        If a file is damaged.
    """
    agree_on_root(comm, lambda: refuse_input_as_output([model], to))
    summed: list[SummedModel] = []

    def facts_of_model() -> SumsFacts:
        summed.append(SummedModel.read(model))
        return summed[0].kept.facts

    facts = run_on_root(comm, facts_of_model)
    trained = agree(comm, lambda: TrainedModel.load(model_path(model), allow_code=allow_code))
    config = recorded_config(trained.file.config, facts)
    with limit_threads(config.training.threads or threads_per_rank(comm)):
        rows = agree(comm, lambda: read_new_rows(config, facts, new_data, unit, progress and comm.is_root))
        by_unit = _sums(comm, config, facts, rows, trained.reservoir, progress)

    def solved() -> SumsResult:
        first = summed[0]
        new = KeptSums(replace(facts, shards=[rows.source.fingerprint()]), by_unit, str(new_data))
        return write_solution(first, merged(with_global_names(first.kept), new), to)

    return run_on_root(comm, solved)


def _sums(
    comm: Communicator, config: Config, facts: SumsFacts, rows: NewRows, reservoir: StateSource, progress: bool
) -> dict[str, Unit]:
    """Return the sums of the units of new rows, on rank 0. Collective."""
    units = unit_rows(rows.index)
    total = sum(unit.stop - unit.start for unit in units)
    with Progress("states and sums", math.ceil(total / comm.size), enabled=comm.is_root and progress) as bar:
        blocks = blocks_of(config, rows, reservoir, bar)
        sizes = facts.features, len(facts.classes), facts.by_class
        return sum_units(comm, units, blocks, *sizes, copies_of(config), sums_device(reservoir.device))
