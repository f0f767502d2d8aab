"""The fit and the prediction of an estimator, with the functions that the command line uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree_on_root
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.sklearn.folders import folder_of_ranks

if TYPE_CHECKING:
    from rcdp_hpc.deploy.in_memory import Prediction
    from rcdp_hpc.model.trained_model import TrainedModel

STAGES = ("prepare", "search", "train")
# Bytes of a run for each byte of the samples: shards of the balanced rows, checkpoints.
FILES_PER_BYTE = 4


def fit_model(
    config: Config,
    arrays: dict[str, NDArray[Any]],
    labels: NDArray[Any],
    comm: Communicator,
    folder: str | Path | None,
) -> tuple[bytes, dict[str, Any]]:
    """Prepare, search and train in a temporary run directory. Collective.

    Parameters
    ----------
    config : Config
    arrays : dict
        ``x`` and, for padded series, ``lengths``, and ``groups`` if samples have them; the same on every rank.
    labels : ndarray, shape (n,)
    comm : Communicator
    folder : str, Path or None
        Where the run directory is made.

    Returns
    -------
    content : bytes
        Of the model file.
    results : dict
        Results of the stages.
    """
    needed = FILES_PER_BYTE * arrays["x"].nbytes
    # The stages need a test part. All samples are for training, so one of each class stands in; no stage reads them.
    _, rows = np.unique(labels, return_index=True)
    test = {name: values[rows] for name, values in arrays.items()}
    if "groups" in arrays:
        test["groups"] = np.full(len(rows), arrays["groups"].max() + 1)
    with folder_of_ranks(comm, needed, folder) as place:
        run = RunDirectory(place / "run")
        results = run_stages(
            STAGES, config, run.path, comm, data={**arrays, "y": labels}, test={**test, "y": labels[rows]}
        )
        content = comm.broadcast(agree_on_root(comm, run.model.read_bytes))
    results["prepare"] = {split: rows for split, rows in results["prepare"].items() if split != "test"}
    return content, results


def predict_model(model: TrainedModel, arrays: dict[str, NDArray[Any]], comm: Communicator) -> Prediction:
    """Return the predictions of samples, with classes in the order of the model's. Collective.

    Parameters
    ----------
    model : TrainedModel
    arrays : dict
        As in `fit_model`.
    comm : Communicator
    """
    from rcdp_hpc.deploy.in_memory import predict_in_memory

    x, lengths = arrays["x"], arrays.get("lengths")
    samples = x if lengths is None else [series[:length] for series, length in zip(x, lengths, strict=True)]
    # scikit-learn's estimators accept samples on any scale. The log has a warning.
    return predict_in_memory(model, samples, model.data.reading, comm, any_scale=True)
