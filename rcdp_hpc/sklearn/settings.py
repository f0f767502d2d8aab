"""From the parameters of the estimator to the configuration of its run."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from sklearn.utils import check_random_state

from rcdp_hpc.config import Config, load_config, with_settings
from rcdp_hpc.config.choices import ARRAYS
from rcdp_hpc.config.data import FILLS
from rcdp_hpc.sklearn.errors import InvalidInputError

# The keys that each parameter sets, if it is not None.
KEYS = {
    "nodes": ("reservoir.nodes",),
    "spectral_radius": ("reservoir.spectral_radius",),
    "leak": ("reservoir.leak",),
    "input_scaling": ("reservoir.input_scaling",),
    "readout": ("readout.kind",),
    "epochs": ("training.epochs",),
    "balance": ("data.balance",),
    "validation_fraction": ("data.validation_fraction",),
    "generations": ("search.generations",),
    "kind": ("data.kind",),
    "random_state": ("run.seed", "reservoir.seed"),
}
SEEDS = 2**31 - 1


def config_of(base: Config | Mapping[str, Any] | str | Path | None, parameters: Mapping[str, Any]) -> Config:
    """Return the configuration of a fit.

    Parameters
    ----------
    base : Config, mapping, str, Path or None
        The estimator's ``config``.
    parameters : mapping
        Values of the parameters in `KEYS`; those that are None are left to `base`.

    Raises
    ------
    InputError
        If a value is not accepted, or `base` names other data.
    """
    changes: dict[str, Any] = {"data.source": ARRAYS}
    for name, value in parameters.items():
        if value is not None:
            changes |= dict.fromkeys(KEYS[name], value)
    config = _changed(base, changes)
    _refuse_other_data(config)
    return config.model_copy(
        update={
            "run": config.run.model_copy(update={"progress": False}),
            # Fits for comparison, which `rcdp evaluate` reports. A warm start needs the first.
            "training": config.training.model_copy(
                update={"baseline": config.readout.warm_start, "tree_baseline": "never"}
            ),
        }
    )


def seed_of(random_state: Any) -> int | None:
    """Return the seed that a ``random_state`` gives; None leaves it to the configuration.

    Raises
    ------
    InvalidInputError
        If it is neither an integer, a `numpy.random.RandomState` nor None.
    """
    if random_state is None:
        return None
    if isinstance(random_state, Integral):
        return int(random_state)
    try:
        return int(check_random_state(random_state).randint(SEEDS))
    except ValueError as error:
        raise InvalidInputError(f"random_state: {error}") from None


def fills_missing_values(base: Any) -> bool:
    """Return whether an estimator's ``config`` fills missing values, without reading files."""
    if isinstance(base, Config):
        return base.data.missing in FILLS
    data = base.get("data") if isinstance(base, Mapping) else None
    return isinstance(data, Mapping) and data.get("missing") in FILLS


def _changed(base: Config | Mapping[str, Any] | str | Path | None, changes: Mapping[str, Any]) -> Config:
    """Return `base` with settings changed, by dotted key."""
    if isinstance(base, Config):
        return with_settings(base, changes, "of the estimator")
    if base is not None and not isinstance(base, Mapping | str | Path):
        raise InvalidInputError(
            f"config is a {type(base).__name__}; expected a dict, the name of a profile, a path or a Config"
        )
    sections: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    return load_config({} if base is None else base, **sections)


def _refuse_other_data(config: Config) -> None:
    """Raise an `InvalidInputError` for settings of ``[data]`` that need a file, or that take samples away."""
    data = config.data
    if data.path or data.test_path:
        key = "data.path" if data.path else "data.test_path"
        raise InvalidInputError(f"config sets {key}: the estimator is given its samples. Take {key} out.")
    if data.missing == "drop":
        raise InvalidInputError(
            "config sets data.missing = 'drop', which would leave samples without a prediction: remove the samples "
            "with missing values from X and y, or set data.missing = 'median'"
        )
    if data.folds:
        raise InvalidInputError("config sets data.folds: use cross_val_score or another tool of scikit-learn instead")
