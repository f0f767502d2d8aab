"""The data of a comparison: shards that are prepared once for each repetition, and extractors that are trained once.

``DIR/data/NAME`` is the run directory of one preparation, ``DIR/extractors/NAME`` that of a training of the extractor.
The run directories of the cells have a link to the shards, whose checksums are checked wherever they are read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rcdp_hpc.comparison.plan import PlannedCell
from rcdp_hpc.comparison.settings import config_of_data, config_of_extractor
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.pipeline.linked_shards import link_shards
from rcdp_hpc.pipeline.stages import StageOptions, run_with_options
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import run_on_root
from rcdp_hpc.runtime.rundir import RunDirectory


def data_name(config: Config, cell: PlannedCell) -> str:
    """Return the name of a cell's data. With ``data.seed``, all seeds have the same data."""
    if cell.fold:
        return f"fold-{cell.fold}"
    return f"seed-{cell.seed if config.data.seed < 0 else config.data.seed}"


def extractor_name(cell: PlannedCell) -> str:
    """Return the name of the extractor of a cell, which follows the seed also where the data does not."""
    return f"fold-{cell.fold}" if cell.fold else f"seed-{cell.seed}"


def data_directory(run: RunDirectory, name: str) -> RunDirectory:
    """Return the run directory of a preparation."""
    return RunDirectory(run.path / "data" / name)


def extractor_directory(run: RunDirectory, name: str) -> RunDirectory:
    """Return the run directory of the training of an extractor."""
    return RunDirectory(run.path / "extractors" / name)


def prepare_data(
    config: Config, run: RunDirectory, cell: PlannedCell, comm: Communicator, options: StageOptions
) -> None:
    """Prepare the shards of a cell, unless they are prepared. Collective; errors are those of the preparation."""
    own = config_of_data(config, cell.seed, cell.fold)
    place = data_directory(run, data_name(config, cell))
    run_with_options(("prepare",), own, place.path, comm, options)


def train_extractor(
    config: Config, run: RunDirectory, cell: PlannedCell, facts: DataFacts, comm: Communicator, options: StageOptions
) -> None:
    """Train the extractor of a cell, unless it is trained. Collective; errors are those of the training."""
    place = extractor_directory(run, extractor_name(cell))
    prepared = run_on_root(comm, lambda: link_data(config, run, cell, place))
    own = config_of_extractor(config, cell, facts, prepared)
    run_with_options(("train",), own, place.path, comm, replace(options, arrays=None))


def link_data(config: Config, run: RunDirectory, cell: PlannedCell, place: RunDirectory) -> dict[str, Any]:
    """Give a run directory the shards of a cell, as a link; return the settings that prepared them."""
    return link_shards(data_directory(run, data_name(config, cell)), place, "the comparison")


def data_seconds(run: RunDirectory) -> dict[str, dict[str, float]]:
    """Return the seconds of each preparation and of the training of each extractor, by name."""
    seconds: dict[str, dict[str, float]] = {}
    for folder, stage, name in (("data", "prepare", "prepare"), ("extractors", "train", "extractor")):
        for path in sorted((run.path / folder).glob("*")):
            state = RunDirectory(path).state(stage)
            if "seconds" in state:
                seconds.setdefault(path.name, {})[name] = float(state["seconds"])
    return seconds
