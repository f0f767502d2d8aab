"""Functions of the Python interface besides the stages: prediction, verification, reading a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.requirements import require_torch
from rcdp_hpc.runtime.comm.collective import agree
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.rundir import RunDirectory

if TYPE_CHECKING:
    from rcdp_hpc.deploy.export.export import Export
    from rcdp_hpc.deploy.in_memory import Prediction
    from rcdp_hpc.deploy.predictor import Predictor
    from rcdp_hpc.model.prediction_model import PredictionModel
    from rcdp_hpc.model.trained_model import TrainedModel

INDEX = "index.json"


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    findings : tuple of str
        The problems, with the name of the file; empty if there are none.
    notes : tuple of str
        Groups of a separate test set that are in training, too, and samples that occur in two splits, equal or nearly
        so.
    groups : int
        Number of groups (patients, subjects, sites), none of which is on two sides of a split; 0 without groups.
    """

    findings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    groups: int = 0

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.findings


def load_model(path: str | Path, allow_code: bool = False) -> TrainedModel:
    """Read a trained model.

    Parameters
    ----------
    path : str or Path
        A run directory or a ``model.pt``.
    allow_code : bool
        Import classes that the model file names. Such a file can run any code.

    Returns
    -------
    TrainedModel
        ``classes``, ``sample_shape``, and ``probabilities(samples, scaled=False)``; `predict` takes it too.

    Raises
    ------
    InputError
        If there is no model, or it names code that is not allowed.
    DataDamagedError
        If it is damaged.
    """
    require_torch()
    from rcdp_hpc.model.trained_model import TrainedModel

    return TrainedModel.load(model_file(path), allow_code=allow_code)


def load(path: str | Path, *, any_scale: bool = False, allow_code: bool = False) -> Predictor:
    """Read a trained or an exported model for predictions in this process.

    Parameters
    ----------
    path : str or Path
        A run directory, a ``model.pt``, or an exported ``.safetensors`` or ``.npz``, which needs no torch.
    any_scale : bool
        Predict samples on another scale than the training data, with a warning.
    allow_code : bool
        Import classes that the model file names. Such a file can run any code.

    Returns
    -------
    Predictor
        ``classes``, and ``predict_proba(samples)`` and ``predict(samples)`` of raw samples.

    Raises
    ------
    InputError
        If there is no model, or it names code that is not allowed.
    DataDamagedError
        If it is damaged.

    Examples
    --------
    >>> rcdp_hpc.load("runs/first").predict_proba(x)  # doctest: +SKIP
    """
    from rcdp_hpc.deploy.open_model import is_exported, open_model
    from rcdp_hpc.deploy.predictor import Predictor

    file = model_file(path)
    if not is_exported(file):
        require_torch()
    return Predictor(open_model(file, allow_code), any_scale)


def export(path: str | Path, to: str | Path, *, check: bool = True) -> Export:
    """Write a trained model to a file that runs without this package, and compare it with the model on test rows.

    Parameters
    ----------
    path : str or Path
        A run directory or a ``model.pt``.
    to : str or Path
        The file to write; its suffix decides the format: .npz, .onnx, .mat, .c or .safetensors.
    check : bool
        Compare predictions; without it no test rows are needed.

    Returns
    -------
    Export
        ``files``, ``largest_difference`` of the probabilities and number of ``other_labels``.

    Raises
    ------
    InputError
        If there is no model or no such format, the model cannot be exported, or test rows are missing.
    StageFailedError
        If the file gives other predictions than the model.
    """
    require_torch()
    from rcdp_hpc.deploy.export.export import export as export_model

    return export_model(absolute_path(path), absolute_path(to), check)


def predict(
    model: str | Path | TrainedModel,
    samples: Any,
    to: str | Path | None = None,
    *,
    comm: Any = None,
    any_scale: bool = False,
    allow_code: bool = False,
) -> Prediction:
    """Predict the classes of new samples, raw as in the source of the training data. Collective.

    The checks are those of ``rcdp predict``: shape, scale and missing values.

    Parameters
    ----------
    model : str, Path or TrainedModel
        A run directory, a ``model.pt``, an exported ``.npz``, or what `load_model` returned.
    samples : str, Path, array_like or list of array_like
        A file or folder of samples; or an array of shape (n, *sample_shape), the same on every rank; or a DataFrame,
        whose columns are taken by name; or a list of series of unequal length, each of shape (steps, features).
    to : str or Path, optional
        Write the predictions to this file instead of keeping them in memory; its suffix decides the format.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        Ranks that share the work. Default: this process alone.
    any_scale : bool
        Predict samples on another scale than the training data, with a warning.
    allow_code : bool
        Import classes that the model file names.

    Returns
    -------
    Prediction
        ``labels``, ``probabilities`` and ``counts``, on every rank; with `to` only ``counts``.

    Raises
    ------
    InputError
        If there is no model, or samples do not fit it.
    DataDamagedError
        If the model is damaged.

    Examples
    --------
    >>> rcdp_hpc.predict("runs/first", x).labels[:3]  # doctest: +SKIP
    array(['4', '2', '7'], dtype='<U1')
    """
    from rcdp_hpc.deploy import in_memory
    from rcdp_hpc.deploy.open_model import is_exported, open_model
    from rcdp_hpc.deploy.predict import predict as predict_file
    from rcdp_hpc.deploy.reading import model_and_reading

    if not (isinstance(model, str | Path) and is_exported(Path(model))):
        require_torch()
    with communicator_of(comm) as ranks:
        loaded: PredictionModel
        if not isinstance(model, str | Path):
            loaded, reading, file = model, model.data.reading, Path(model.where)
        else:
            file, reading = agree(ranks, lambda: model_and_reading(absolute_path(model)))
            loaded = agree(ranks, lambda: open_model(file, allow_code))
            reading = reading or loaded.data.reading
        if to is None:
            return in_memory.predict_in_memory(loaded, samples, reading, ranks, any_scale, allow_code)
        path = agree(ranks, lambda: _only_file(samples))
        counts = predict_file(file, path, Path(to), reading, ranks, any_scale=any_scale, allow_code=allow_code)
        return in_memory.Prediction(list(loaded.classes), ranks.broadcast(counts))


def verify(run: str | Path, *, comm: Any = None, progress: bool = False) -> Verification:
    """Check every checksum, count, class proportion and origin of the rows of prepared shards. Collective.

    Parameters
    ----------
    run : str or Path
        A run directory, or a folder of shards.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        Ranks that share the work. Default: this process alone.
    progress : bool
        Show a progress line on rank 0.

    Returns
    -------
    Verification
        The same on every rank.

    Raises
    ------
    InputError
        If there are no shards.
    """
    from rcdp_hpc.data.shards.verify import check_shards

    path = absolute_path(run)
    shards = path if (path / INDEX).exists() else RunDirectory(path).shards
    with communicator_of(comm) as ranks:
        report = check_shards(shards, progress=progress, comm=ranks)
        return Verification(tuple(report.findings), tuple(report.notes), report.groups)


def model_file(path: str | Path) -> Path:
    """Return the model file of a run directory; the path of a file unchanged."""
    place = absolute_path(path)
    return RunDirectory(place).model if place.is_dir() else place


def _only_file(samples: Any) -> Path:
    if not isinstance(samples, str | Path):
        raise InputError(f"samples: a {type(samples).__name__}; only samples of a file are predicted to a file")
    return Path(samples)
