"""``rcdp average``: the mean of models of one configuration that were trained on other rows, weighted by their rows."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import NETWORK_SECTIONS
from rcdp_hpc.config.keys import differing_keys, flatten, marked_keys, settings_that_matter
from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answer_rule import AnswerRule
from rcdp_hpc.model.fields import refuse_other_shapes
from rcdp_hpc.model.model_data import ModelData
from rcdp_hpc.model.model_file import ModelFile, Tensors
from rcdp_hpc.reservoir.matrix_files import arrays_of

log = logging.getLogger(__name__)

# Statistics of the samples of one site, by which a network normalises its values.
STATISTICS = ("running_mean", "running_var", "state_mean", "state_scale", "input_mean", "input_scale")
MOST_KEYS = 5


@dataclass(frozen=True)
class Averaged:
    """What was averaged.

    Attributes
    ----------
    to : Path
        The file of the averaged model.
    rows : list of int
        Rows of the training data of each model, by which it is weighted.
    statistics : list of str
        What is a mean of statistics of the models' samples, and not of trained weights.
    """

    to: Path
    rows: list[int]
    statistics: list[str]


def average(models: Sequence[Path], to: Path, rows: Sequence[int] = ()) -> Averaged:
    """Write the mean of models: ``w = sum_k n_k w_k / sum_k n_k`` for each weight, with the rows n_k of model k.

    This is the aggregation of federated averaging (McMahan et al., "Communication-efficient learning of deep networks
    from decentralized data", 2017). Networks have a meaningful mean if they were trained from the same initial weights.
    Statistics of standardisations and batch normalisations are averaged, too.

    Parameters
    ----------
    models : sequence of Path
        Run directories or model files, at least two.
    to : Path
        The model file to write.
    rows : sequence of int
        Rows of each model. Default: the training rows that its file records, without synthetic ones.

    Raises
    ------
    InputError
        If a model is missing, has another configuration or other classes, cannot be averaged, or its rows are not
        known.
    DataDamagedError
        If a model file is damaged.
    """
    paths = [path / "train/model.pt" if path.is_dir() else path for path in models]
    if len(paths) < 2:
        raise InputError("rcdp average needs at least two models.")
    if missing := [path for path in paths if not path.exists()]:
        raise InputError(f"{missing[0]}: there is no such model. Give run directories or model files.")
    if to.exists() and any(to.samefile(path) for path in paths):
        raise InputError(f"{to}: is one of the models; choose another file for their mean.")
    files = [ModelFile.read(path) for path in paths]
    for file in files[1:]:
        _refuse_different(files[0], file)
    _refuse_unaveraged(files)
    counts = list(rows) or [_rows_of(file) for file in files]
    if len(counts) != len(files) or min(counts) < 1:
        raise InputError(f"--rows: expected a positive number for each of the {len(files)} models, got {counts}.")
    shares = [count / sum(counts) for count in counts]
    mean = replace(
        files[0],
        shards=_digest([file.shards for file in files], counts),
        rows=sum(counts),
        data=_mean_data([file.data for file in files], shares),
        weights=_mean_weights([file.weights for file in files], shares),
        quantized={},
        rule=AnswerRule(),
    )
    mean.save(to)
    result = Averaged(to, counts, _averaged_statistics(mean))
    _report(files, result)
    return result


def _rows_of(file: ModelFile) -> int:
    if file.rows is None:
        raise InputError(
            f"{file.where}: does not record the rows that it was trained on, since an earlier version wrote it. Give "
            "the rows of each model, as in --rows 1200 800."
        )
    return file.rows


def _refuse_different(first: ModelFile, other: ModelFile) -> None:
    """Raise an `InputError` if two models do not compute the same function of their weights."""
    where = f"{other.where}: cannot be averaged with {first.where}"
    paths = set(marked_keys("path"))
    trees = [settings_that_matter(file.config, (*NETWORK_SECTIONS, "loss")) for file in (first, other)]
    if keys := [key for key in differing_keys(*trees) if key not in paths]:
        old, new = map(flatten, trees)
        listed = ", ".join(f"{key} ({new.get(key)} instead of {old.get(key)})" for key in keys[:MOST_KEYS])
        more = f" and {len(keys) - MOST_KEYS} more" if len(keys) > MOST_KEYS else ""
        raise InputError(f"{where}: it has another configuration: {listed}{more}. Train both with the same settings.")
    for name, mine, theirs in (
        ("classes", first.classes, other.classes),
        ("samples of the shape", first.sample_shape, other.sample_shape),
        ("scale", first.scale, other.scale),
        ("columns", first.data.columns, other.data.columns),
        ("modules of its code", first.code, other.code),
    ):
        if mine != theirs:
            raise InputError(f"{where}: it has other {name} ({_short(theirs)} instead of {_short(mine)}).")
    if not _equal(first.learned, other.learned):
        raise InputError(
            f"{where}: its extractor ({other.config.extractor.kind}) learned something else from its samples, so that "
            "the features differ. Use extractor.kind = 'pretrained', with the model of one site, on all of them."
        )
    if not _equal(_matrices(first), _matrices(other)):
        raise InputError(f"{where}: it has other matrices of the reservoir. Use the same reservoir.matrices.")
    refuse_other_shapes(f"{other.where}: weights", other.weights, first.weights, "Train both with the same settings.")


def _refuse_unaveraged(files: Sequence[ModelFile]) -> None:
    """Raise an `InputError` if weights of the same name do not correspond between models."""
    file = files[0]
    if file.config.readout.kind == "elm":
        raise InputError(
            f"{file.where}: the layers of an extreme learning machine are solved from the rows of one model, and those "
            "of another model do not correspond to them. Models with readout.kind = 'ridge', or trained by gradient "
            "steps, can be averaged."
        )
    if file.config.readout.members > 1:
        raise InputError(
            f"{file.where}: is an ensemble of {file.config.readout.members} solved readouts, each of other rows. "
            "Average models of single readouts (readout.members = 1)."
        )
    if file.config.parallel.replicas == "ensemble":
        raise InputError(
            f"{file.where}: is an ensemble, whose members start from different weights. Average models of single "
            "networks (parallel.replicas = 'synchronised')."
        )
    methods = {None if one.data.standardization is None else _form(one.data.standardization) for one in files}
    if len(methods) > 1:
        raise InputError(
            f"{files[1].where}: its samples are standardised in another way than those of {file.where}. Prepare all of "
            "them with the same data.standardize, data.missing and data.missing_mask, or like one another (data.like)."
        )


def _form(standardization: Standardization) -> tuple[str, int, bool, tuple[int, ...]]:
    fills = standardization.fill is not None
    return standardization.method, len(standardization.center), fills, standardization.mask


def _mean_weights(states: Sequence[Tensors], shares: Sequence[float]) -> Tensors:
    mean: Tensors = {}
    for name, value in states[0].items():
        if value.is_floating_point():
            stacked = torch.stack([state[name].double() for state in states])
            mean[name] = torch.tensordot(torch.tensor(shares, dtype=torch.float64), stacked, 1).to(value.dtype)
        else:
            mean[name] = value
    return mean


def _mean_data(data: Sequence[ModelData], shares: Sequence[float]) -> ModelData:
    standardizations = [one.standardization for one in data if one.standardization is not None]
    ranges = [one.ranges for one in data if one.ranges is not None]
    return replace(
        data[0],
        standardization=_mean_standardization(standardizations, shares) if standardizations else None,
        ranges=_joined_ranges(ranges) if len(ranges) == len(data) else None,
    )


def _mean_standardization(parts: Sequence[Standardization], shares: Sequence[float]) -> Standardization:
    """Return the standardisation of all samples: of means and variances for "standard", otherwise the mean of each."""
    center = _weighted([part.center for part in parts], shares)
    if parts[0].method == "standard":
        squares = [part.deviation**2 + (part.center - center) ** 2 for part in parts]
        deviation = np.sqrt(_weighted(squares, shares))
    else:
        deviation = _weighted([part.deviation for part in parts], shares)
    fills = [part.fill for part in parts if part.fill is not None]
    fill = _weighted(fills, shares) if fills else None
    return Standardization(parts[0].method, center, deviation, fill, parts[0].mask)


def _weighted(arrays: Sequence[NDArray[np.float64]], shares: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(np.tensordot(np.array(shares), np.stack(arrays), 1), np.float64)


def _joined_ranges(parts: Sequence[FeatureRanges]) -> FeatureRanges:
    """Return the ranges of the values of all models; a feature without values in a model does not count there."""
    values = np.stack([part.values for part in parts])
    shares = values / np.maximum(values.sum(0), 1)

    def moments(mean: str, deviation: str) -> tuple[Any, Any]:
        means, deviations = (np.stack([getattr(part, name) for part in parts]) for name in (mean, deviation))
        total = (shares * means).sum(0)
        return total, np.sqrt((shares * (deviations**2 + (means - total) ** 2)).sum(0))

    def extreme(name: str, empty: float, function: Any) -> Any:
        found = function(np.where(values > 0, np.stack([getattr(part, name) for part in parts]), empty), axis=0)
        return np.where(values.sum(0) > 0, found, 0.0)

    mean, deviation = moments("mean", "deviation")
    log_magnitude, log_deviation = moments("log_magnitude", "log_deviation")
    return replace(
        parts[0],
        values=values.sum(0),
        minimum=extreme("minimum", np.inf, np.min),
        maximum=extreme("maximum", -np.inf, np.max),
        mean=mean,
        deviation=deviation,
        log_magnitude=log_magnitude,
        log_deviation=log_deviation,
    )


def _averaged_statistics(mean: ModelFile) -> list[str]:
    named = sorted({name.rpartition(".")[2] for name in mean.weights} & set(STATISTICS))
    standardization = mean.data.standardization
    if standardization is not None and standardization.method in ("standard", "robust"):
        named.insert(0, "standardisation of the samples")
    return named


def _report(files: Sequence[ModelFile], result: Averaged) -> None:
    for file, count in zip(files, result.rows, strict=True):
        log.info("%s: %d training rows, weight %.4f", file.where, count, count / sum(result.rows))
    if not all(file.rule.is_plain for file in files):
        log.warning(
            "the averaged model is not calibrated, and has no priors, thresholds or costs: those of the models belong "
            "to the probabilities of each of them"
        )
    if result.statistics:
        log.warning(
            "also averaged are statistics of the models' own samples (%s): they are those of all samples only if the "
            "samples of the models are alike. Test the averaged model before you use it.",
            ", ".join(result.statistics),
        )
    log.info("wrote %s", result.to)


def _digest(shards: Sequence[str], rows: Sequence[int]) -> str:
    """Return the digest of the averaged model's training data, from those of the models."""
    return hashlib.sha256(json.dumps([list(shards), list(rows)]).encode()).hexdigest()


def _matrices(file: ModelFile) -> Tensors:
    if file.matrices is None:
        return {}
    return {name: torch.from_numpy(array) for name, array in arrays_of(file.matrices).items()}


def _equal(mine: Tensors, theirs: Tensors) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in mine.items())


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
