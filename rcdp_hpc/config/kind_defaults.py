"""Defaults that depend on the kind of data: what a configuration with ``[data]`` alone runs with.

A key that the configuration sets is never changed. The profiles ``table``, ``series`` and ``image`` are these defaults:
their files name the kind and leave the rest to this module. The other shipped profiles are complete by themselves and
take nothing from here; the classes of the sections hold the paper's values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rcdp_hpc.config.choices import extractor_choice, readout_choice

KINDS = ("table", "series", "images")
# The profile that is the defaults of each kind.
KIND_PROFILES = {"table": "table", "series": "series", "images": "image"}
# Shapes of a sample: the first is the example that is shown, the others lead to other values.
EXAMPLE_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "table": ((10,), (2,)),
    "series": ((100, 3), (9, 2)),
    "images": ((64, 64, 3), (8, 8), (8, 9), (32, 32)),
}
# A map of patches needs some pixels each way; smaller images drive the reservoir row by row.
SMALLEST_IMAGE = 12
# Ways to cut a sample that leave the row of a table whole.
ONE_STEP = ("rows", "columns", "both")
# Columns of a table that a random feature reads: this many at least, and this part of them at least.
TABLE_INPUTS = 5
TABLE_INPUTS_SHARE = 4
GRADIENT_KEYS = (
    "training.epochs",
    "training.batch",
    "training.global_batch",
    "optimizer.kind",
    "optimizer.learning_rate",
    "schedule.kind",
    "loss.kind",
    "readout.dropout",
    "readout.hidden",
)

# Steps of the longest series from which convolution kernels, which have 9 weights, have something to read.
KERNEL_STEPS = 9
# Who sets one of these wants the classes balanced.
BALANCING_KEYS = ("data.balance_ratio", "data.balance_counts", "data.smote_neighbours", "data.reserve")


@dataclass(frozen=True)
class DataFacts:
    """What of a source decides defaults.

    Attributes
    ----------
    kind : {"table", "series", "images"}
        Kind of data.
    sample_shape : tuple of int
        Shape of one sample; the steps of series may be 0 if they are not known yet.
    shortest : int or None
        Steps of the shortest series if series are of unequal length; None otherwise, or if not known.
    """

    kind: str
    sample_shape: tuple[int, ...]
    shortest: int | None = None


def kind_defaults(facts: DataFacts, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults for a kind of data, by dotted key.

    Parameters
    ----------
    facts : DataFacts
    settings : mapping
        What the configuration itself sets, by dotted key: a part that it chooses decides about the others.

    Returns
    -------
    dict
        Only keys that `settings` does not have.
    """
    makers = {"table": _table, "series": _series, "images": _images}
    found = {**_common(), **makers[facts.kind](facts.sample_shape, settings)}
    if settings.get("reservoir.kind", "random") != "random":
        # The default dimensions describe a random reservoir.
        found["search.generations"] = 0
    # Who sets the epochs or the optimiser wants a readout that is trained.
    trained = any(key in settings for key in GRADIENT_KEYS)
    if trained:
        found["readout.kind"] = "network"
    if trained or readout_choice(settings.get("readout.kind", "ridge")).trained:
        found.update(_trained_readout())
    own_space = any(key.startswith("search.space.") for key in settings)
    return {
        key: value
        for key, value in found.items()
        if key not in settings and not (own_space and key.startswith("search.space."))
    }


def example_defaults(kind: str, settings: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Return the defaults for samples of the example's shape, and the keys whose default depends on the shape.

    Parameters
    ----------
    kind : {"table", "series", "images"}
    settings : mapping
        As of `kind_defaults`.
    """
    shown, *others = (kind_defaults(DataFacts(kind, shape), settings) for shape in EXAMPLE_SHAPES[kind])
    by_shape = {key for other in others for key in shown.keys() | other.keys() if shown.get(key) != other.get(key)}
    return shown, by_shape


def _kind_keys() -> frozenset[str]:
    samples = ((kind, shape) for kind, shapes in EXAMPLE_SHAPES.items() for shape in shapes)
    found = {key for kind, shape in samples for key in kind_defaults(DataFacts(kind, shape), {})}
    return frozenset(found | set(_trained_readout()))


def _common() -> dict[str, Any]:
    return {
        "reservoir.nodes": 500,
        "reservoir.density": 0.1,
        "reservoir.leak": 1.0,
        "reservoir.bias_scaling": 0.3,
        "search.population": 8,
        "search.generations": 5,
        "readout.kind": "ridge",
    }


def _table(shape: tuple[int, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of tables, whose rows are one step: a layer of random features, and no search.

    Features of few columns fit tables better than features of all. A search of input and bias scaling, or a choice of
    them by left-out error, gained nothing over these values (docs/tables.md).
    """
    if settings.get("reservoir.sequence", "rows") not in ONE_STEP:
        # The user cuts a row into steps: it is a series.
        return {key: value for key, value in _series((1, 1), settings).items() if key != "reservoir.sequence"}
    inputs = min(shape[-1], max(TABLE_INPUTS, shape[-1] // TABLE_INPUTS_SHARE))
    scaling = _input_scaling(inputs, 2.0)
    return {
        "reservoir.kind": "random",
        "reservoir.sequence": "rows",
        "reservoir.states": 1,
        "reservoir.nodes": 1000,
        "reservoir.input_density": _rounded(inputs / max(1, shape[-1])),
        "reservoir.input_scaling": scaling,
        "reservoir.bias_scaling": 1.0,
        "search.generations": 0,
        "search.space.input_scaling": _range(scaling / 8, scaling * 4),
        "search.space.bias_scaling": _range(0.05, 2.0),
    }


def _series(shape: tuple[int, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of series: values and differences drive neurons of many time scales; no search.

    The values are those of the best mean accuracy over 20 data sets (docs/series.md).
    """
    # Synthetic series between two others of a class cost more accuracy than they gain balanced accuracy.
    balanced = any(key in settings for key in BALANCING_KEYS)
    ridge = not readout_choice(settings.get("readout.kind", "ridge")).trained
    # Steps that an extractor makes, such as frequency bands, are not points in time, which differences need.
    extractor = extractor_choice(settings.get("extractor.kind", "none"))
    steps_stay = extractor.reads_sequences and settings.get("extractor.over", "steps") == "steps"
    by_time = not extractor.makes_sequences or steps_stay
    kernels = ridge and shape[0] >= KERNEL_STEPS and settings.get("reservoir.sequence", "rows") == "rows"
    return {
        **({"extractor.kind": "kernels"} if kernels else {}),
        **({} if balanced else {"data.balance": "none"}),
        "extractor.axis": "steps",
        "reservoir.sequence": "rows",
        "reservoir.nodes": 300,
        "reservoir.bidirectional": True,
        "reservoir.differences": by_time,
        "reservoir.input_normalised": True,
        "reservoir.input_scaling": 0.5,
        "reservoir.leak_low": 0.02,
        "reservoir.spectral_radius": 1.2,
        "reservoir.reduction": ["mean", "std", "positive", "max"],
        "search.generations": 0,
        "search.space.spectral_radius": {"low": 0.5, "high": 1.5},
        "search.space.input_scaling": _range(0.1, 2.0),
        "search.space.bias_scaling": _range(0.05, 1.0),
    }


def _images(shape: tuple[int, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of images: a dictionary of patches, learned without labels, drives the reservoir; no search.

    With a search of the user's own, and for small images, rows drive the reservoir.
    """
    side = min(shape[:2])
    by_rows = side < SMALLEST_IMAGE or bool(settings.get("search.generations"))
    extractor = settings.get("extractor.kind", "none" if by_rows else "dictionary")
    choice = extractor_choice(extractor)
    if not choice.makes_sequences or choice.reads_sequences:
        return _rows_of_images(shape)
    defaults: dict[str, Any] = {"search.generations": 0, "extractor.kind": extractor}
    if choice.trained:
        return {**defaults, "readout.kind": "network", **_trained_readout()}
    if extractor == "pretrained":
        return {**defaults, **_pretrained()}
    if extractor == "wavelet_packets":
        return {**defaults, **_wavelet_packets(shape, settings)}
    pool, atoms = 4 if side >= 2 * SMALLEST_IMAGE else 3, 96 if len(shape) == 2 or shape[2] == 1 else 192
    return {
        **defaults,
        "extractor.atoms": atoms,
        "extractor.patch": 6 if side >= 2 * SMALLEST_IMAGE else 4,
        "extractor.pool": pool,
        "extractor.stride": max(1, side // 32),
        "reservoir.nodes": 1000,
        "reservoir.states": pool,
        # A row of the map has pool * 2 * atoms values of standard deviation 1.
        "reservoir.input_scaling": _rounded(0.83 / math.sqrt(pool * 2 * atoms)),
    }


def _wavelet_packets(shape: tuple[int, ...], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a reservoir that reads the frequency bands of images."""
    bands = 2 ** int(settings.get("extractor.levels", 3))
    features = math.ceil(math.prod(shape) / bands)
    return {
        "reservoir.nodes": 1000,
        "reservoir.states": min(4, bands),
        "reservoir.input_scaling": _input_scaling(features, 1.0),
    }


def _pretrained() -> dict[str, Any]:
    """Return those of a reservoir that reads the sequences of a trained extractor, whose number of steps may differ."""
    return {
        "reservoir.nodes": 1000,
        "reservoir.reduction": ["mean", "std"],
        # Channels have the standard deviation 1.
        "reservoir.input_normalised": True,
        "reservoir.input_scaling": 0.5,
    }


def _rows_of_images(shape: tuple[int, ...]) -> dict[str, Any]:
    square = shape[0] == shape[1]
    features = math.prod(shape[1:]) * (2 if square else 1)
    scaling = _input_scaling(features, 1.0)
    return {
        "reservoir.sequence": "both" if square else "rows",
        "reservoir.states": min(4, shape[0]),
        "reservoir.leak": 0.7,
        "reservoir.input_scaling": scaling,
        "search.space.spectral_radius": {"low": 0.3, "high": 1.5},
        "search.space.leak": {"low": 0.3, "high": 1.0},
        "search.space.input_scaling": _range(scaling / 8, scaling * 4),
    }


def _trained_readout() -> dict[str, Any]:
    return {"training.epochs": 60, "schedule.kind": "cosine", "training.patience": 20}


def _input_scaling(features: int, size: float) -> float:
    """Return the scaling with which `features` inputs of standard deviation 1 add up to `size` in a neuron.

    Input weights are uniform in [-s, s] and so have the standard deviation s / sqrt(3).
    """
    return _rounded(size * math.sqrt(3 / max(1, features)))


def _range(low: float, high: float) -> dict[str, Any]:
    return {"low": _rounded(low), "high": _rounded(high), "log": True}


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


# Every key that has a default for some kind of data.
KIND_KEYS = _kind_keys()
