"""The experiment: its parts in order, each in a folder of its own, so that it can be stopped and resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.compare import compare
from rcdp_hpc.comparison.paper.document import RESULTS, write_document
from rcdp_hpc.comparison.paper.effect import run_effects
from rcdp_hpc.comparison.paper.loss_curves import run_table2
from rcdp_hpc.comparison.paper.pictures import draw_folds, draw_losses_of, draw_use
from rcdp_hpc.comparison.paper.scale import SETTINGS, Scale
from rcdp_hpc.comparison.paper.settings import (
    TABLES,
    TITLES,
    DataFolders,
    comparison_settings,
    fold_settings,
    image_source,
)
from rcdp_hpc.comparison.paper.sizes import measure_sizes
from rcdp_hpc.config import Config
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.pipeline.stages import StageOptions
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root, agreed, run_on_root
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.digests import read_sealed, write_sealed

log = logging.getLogger(__name__)

GIB = 2**30


@dataclass(frozen=True)
class Experiment:
    """What the parts need.

    Attributes
    ----------
    folder : Path
        Folder of all results.
    data : DataFolders
    scale : Scale
    seeds : tuple of int
    comm : Communicator
    progress : bool
    """

    folder: Path
    data: DataFolders
    scale: Scale
    seeds: tuple[int, ...]
    comm: Communicator
    progress: bool = False

    @property
    def options(self) -> StageOptions:
        """How the stages of single runs start."""
        return StageOptions(progress=self.progress)

    def compare(self, config: Config, name: str) -> None:
        """Run or resume a comparison in the folder of a part. Collective."""
        compare(config, self.folder / name, self.comm, progress=self.progress)


@dataclass(frozen=True)
class Part:
    """One table or figure.

    Attributes
    ----------
    title : str
        For the log.
    run : callable
        Runs or resumes it. Collective.
    """

    title: str
    run: Callable[[Experiment], None]


def compare_paper(
    out: str | Path,
    mnist: str | Path,
    cifar10: str | Path,
    scale: Scale,
    seeds: Sequence[int] = (1,),
    comm: Any = None,
    *,
    progress: bool = False,
) -> Path:
    """Make the tables 3 to 6 and the figures 3 and 4 of the paper. Collective.

    Finished parts are not repeated; a part that was stopped or killed is resumed. With further seeds than before, the
    tables get their cells.

    Parameters
    ----------
    out : str or Path
        Folder of the results.
    mnist, cifar10 : str or Path
        Folders of the data sets.
    scale : Scale
        `rcdp_hpc.comparison.paper.scale.QUICK` or ``FULL``.
    seeds : sequence of int
        Seeds of Tables 3, 4 and 5. The five folds of Fig. 4 use the first one.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        All ranks of the job, ``rcdp_hpc.connect()``. Default: this process alone.
    progress : bool
        As in `rcdp_hpc.run`.

    Returns
    -------
    Path
        ``paper.html``, the document with all tables and figures; ``paper.md`` has them, too.

    Raises
    ------
    InputError
        If a data set cannot be read, or the folder has an experiment with other settings.
    StageFailedError
        If cells of a comparison failed, after all parts ended.
    StoppedError
        If a signal stopped the experiment. The same call resumes it.
    """
    with communicator_of(comm) as ranks:
        folders = DataFolders(absolute_path(mnist), absolute_path(cifar10))
        experiment = Experiment(absolute_path(out), folders, scale, tuple(seeds), ranks, progress)
        run_on_root(ranks, partial(_begin, experiment))
        failures = [failure for number in range(len(PARTS)) if (failure := _run_part(experiment, number))]
        document = experiment.folder / run_on_root(ranks, partial(_write, experiment))
        if failures:
            raise agreed(StageFailedError("; ".join(failures)))
    return document


def _begin(experiment: Experiment) -> None:
    """Record the settings, and refuse a folder that has an experiment with others."""
    # Both data sets are looked for before the first part, which reads only one of them.
    for data in TITLES:
        if not experiment.data.of(data).is_dir():
            raise InputError(
                f"{experiment.data.of(data)}: no such folder; --{data} takes the folder of the published files of "
                f"{TITLES[data]}"
            )
    settings = {**experiment.scale.as_json(), "seeds": list(experiment.seeds)}
    path = experiment.folder / SETTINGS
    if not path.exists():
        experiment.folder.mkdir(parents=True, exist_ok=True)
        write_sealed(path, settings)
        return
    recorded = read_sealed(path, f"Choose another --out, or remove {experiment.folder}.")
    seeds = recorded.get("seeds", [])
    adds_seeds = len(seeds) < len(experiment.seeds) and settings["seeds"][: len(seeds)] == seeds
    for name, value in settings.items():
        if recorded.get(name) != value and not (name == "seeds" and adds_seeds):
            raise InputError(
                f"{experiment.folder}: has an experiment with {name} = {recorded.get(name)}, not {value}: choose "
                "another --out, or the same settings"
            )
    if adds_seeds:
        write_sealed(path, settings)


def _run_part(experiment: Experiment, number: int) -> str:
    """Run or resume a part; return the message about cells that failed, empty if none did. Collective."""
    part = PARTS[number]
    if experiment.comm.is_root:
        log.info("== %d of %d: %s ==", number + 1, len(PARTS), part.title)
    failure = ""
    try:
        part.run(experiment)
    except StageFailedError as error:
        if not error.agreed and experiment.comm.size > 1:
            raise
        failure = f"{part.title}: {error}"
    agree_on_root(experiment.comm, lambda: log.info("wrote %s", experiment.folder / _write(experiment)))
    return failure


def _write(experiment: Experiment) -> str:
    return write_document(experiment.folder).name


def _methods(data: str, experiment: Experiment) -> None:
    """Table 3 or 4."""
    config = comparison_settings(data, experiment.data, experiment.scale, experiment.seeds)
    folder = experiment.folder / TABLES[data]
    try:
        experiment.compare(config, TABLES[data])
    finally:
        with suppress(InputError):  # the comparison has not ended
            agree_on_root(experiment.comm, lambda: draw_use(folder, TITLES[data]))


def _effects(experiment: Experiment) -> None:
    """Table 5."""
    folder = experiment.folder / "table5"
    runs = run_effects(
        tuple(TITLES),
        experiment.data,
        folder,
        experiment.scale,
        experiment.seeds,
        experiment.comm,
        experiment.options,
    )
    content = {"runs": [one.as_json() for one in runs]}
    agree_on_root(experiment.comm, lambda: write_sealed(folder / RESULTS, content))


def _sizes(experiment: Experiment) -> None:
    """Table 6."""
    sizes = [one / GIB for one in experiment.scale.image_bytes]
    data = image_source(experiment.data)
    measure_sizes(
        data, experiment.folder / "table6", experiment.comm, sizes, seed=experiment.seeds[0],
        progress=experiment.progress,
    )  # fmt: skip


def _losses(experiment: Experiment) -> None:
    """Fig. 3."""
    folder = experiment.folder / "figure3"
    curves = {
        data: run_table2(
            data,
            folder / data,
            experiment.folder / TABLES[data] / "cells",
            experiment.data,
            experiment.scale,
            experiment.seeds[0],
            experiment.comm,
            experiment.options,
        )
        for data in TITLES
    }
    agree_on_root(experiment.comm, lambda: draw_losses_of(folder, curves))


def _folds(experiment: Experiment) -> None:
    """Fig. 4."""
    experiment.compare(fold_settings(experiment.data, experiment.scale, experiment.seeds[0]), "figure4")
    agree_on_root(experiment.comm, lambda: draw_folds(experiment.folder / "figure4"))


PARTS = (
    Part("Table 3, CIFAR-10", partial(_methods, "cifar10")),
    Part("Table 4, MNIST", partial(_methods, "mnist")),
    Part("Table 5, with and without a reservoir", _effects),
    Part("Table 6, larger data", _sizes),
    Part("Fig. 3, training loss", _losses),
    Part("Fig. 4, five folds", _folds),
)
