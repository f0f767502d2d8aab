"""Fig. 3: the training loss with the reservoir of Table 2, and with the one that the search found."""

from __future__ import annotations

from pathlib import Path

from rcdp_hpc.comparison.paper.scale import Scale
from rcdp_hpc.comparison.paper.settings import DataFolders, table2_settings
from rcdp_hpc.pipeline.stages import StageOptions, run_with_options
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.digests import read_sealed_lines

METHOD = "mfo"
NAMES = ("Table 2", "found by the search")


def run_table2(
    data: str,
    folder: Path,
    cells: Path,
    folders: DataFolders,
    scale: Scale,
    seed: int,
    comm: Communicator,
    options: StageOptions,
) -> dict[str, list[float]]:
    """Train with the values of Table 2 and return both curves. Collective.

    Parameters
    ----------
    data : {"cifar10", "mnist"}
    folder : Path
        The run directory of the training without a search.
    cells : Path
        Cells of the comparison of the same data set, one of which has searched and trained with the same seed.
    folders, scale, seed
        As of `table2_settings`.
    comm : Communicator
    options : StageOptions

    Returns
    -------
    dict
        Training loss of each epoch, by the `NAMES` of the curves; a curve is missing if its cell failed.
    """
    run_with_options(("prepare", "train"), table2_settings(data, folders, scale, seed), folder, comm, options)
    places = (folder, cells / f"{METHOD}-seed-{seed}")
    return {name: losses for name, place in zip(NAMES, places, strict=True) if (losses := losses_of(place))}


def losses_of(run: Path) -> list[float]:
    """Return the training loss of each epoch of a run; empty if it was not trained."""
    metrics = run / "train" / "metrics.jsonl"
    if not metrics.exists():
        return []
    return [float(line["train_loss"]) for line in read_sealed_lines(metrics, growing=True)]
