"""Refusals of ReservoirClassifier: each is a ValueError with one message."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import rcdp_hpc
from rcdp_hpc.errors import InputError
from rcdp_hpc.sklearn import ReservoirClassifier

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(30, 4)), np.arange(30) % 2


@pytest.fixture(scope="module")
def fitted() -> ReservoirClassifier:
    return ReservoirClassifier(nodes=10).fit(X, Y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:-1], "inconsistent numbers of samples"),
        (X, X, "y should be a 1d array"),
        (X, rng.normal(size=30), "Unknown label type: continuous"),
        (X, np.zeros(30), "y has 1 class"),
        (X, None, "y to be passed"),
        (X, [" a", "a"] * 15, "rename labels"),
        (X, ["NA", "a"] * 15, "y: 15 labels are missing"),
        (np.where(X > 1, np.nan, X), Y, "contains NaN"),
        (np.where(X > 1, np.inf, X), Y, "contains infinity"),
        (X.astype(complex), Y, "Complex data not supported"),
        (X.astype(str), Y, "could not convert|dtype='numeric' is not compatible"),
        (X[0], Y[:4], "Expected 2D array"),
        (X[:, :0], Y, "0 feature"),
        (X[:2], Y[:2], "leaves no row for validation"),
        (np.zeros((30, 0, 2)), Y, "at least one"),
        (np.zeros((30, 2, 2, 2, 2)), Y, "shape"),
        ([np.ones((3, 2)), np.ones((0, 2))] * 15, Y, "series 1 has shape"),
        ([np.ones((3, 2)), np.ones((4, 3))] * 15, Y, "series 1 has shape"),
        ([np.ones((3, 2)), np.full((4, 2), np.nan)] * 15, Y, "NaN or infinity, in series 1"),
        ([np.ones((3, 2)), np.full((4, 2), "a")] * 15, Y, "series 1|expected numbers|sample 1"),
    ],
    ids=itertools.count(),
)
def test_samples_and_labels(x, y, message):
    with pytest.raises(ValueError, match=message):
        ReservoirClassifier(nodes=10).fit(x, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nodes": 0}, "reservoir.nodes"),
        ({"readout": "rigde"}, "ridge"),
        ({"balance": "smotee"}, "smote"),
        ({"kind": "images"}, "data.kind"),
        ({"random_state": -1}, "run.seed"),
        ({"random_state": "x"}, "random_state"),
        ({"config": 3}, "config is a int"),
        ({"config": "no-such-profile"}, "neither a TOML file nor a shipped profile"),
        ({"config": {"reservoir": {"node": 3}}}, "node"),
        ({"config": {"data": {"path": "x.csv"}}}, "config sets data.path"),
        ({"config": {"data": {"missing": "drop"}}}, "config sets data.missing"),
        ({"config": {"data": {"folds": 3}}}, "config sets data.folds"),
        ({"comm": 3}, "comm is an int"),
        ({"folder": "/no/such/folder"}, "/no/such/folder"),
    ],
    ids=str,
)
def test_parameters(parameters, message):
    model = ReservoirClassifier(**{"nodes": 10, **parameters})  # no work is done here
    with pytest.raises(ValueError, match=message) as raised:
        model.fit(X, Y)
    assert isinstance(raised.value, InputError)


def test_prediction(fitted):
    with pytest.raises(NotFittedError):
        ReservoirClassifier().predict(X)
    with pytest.raises(NotFittedError):
        ReservoirClassifier().save("model.pt")
    with pytest.raises(ValueError, match="expecting 4 features"):
        fitted.predict(X[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match="samples of shape"):
        fitted.predict(X.reshape(30, 1, 4))


def test_another_scale_is_a_warning_in_the_log(fitted, caplog, capfd):
    assert fitted.predict(1e6 * X).shape == (30,)
    assert "scale" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_refused_fit_keeps_the_model(fitted):
    before = fitted.predict(X)
    with pytest.raises(ValueError, match="1 class"):
        fitted.fit(X, np.zeros(30))
    assert np.array_equal(fitted.predict(X), before)


def test_missing_values_are_filled_if_the_configuration_says_so():
    x = np.where(rng.random(X.shape) < 0.1, np.nan, X)
    model = ReservoirClassifier(nodes=10, config={"data": {"missing": "median"}}).fit(x, Y)
    assert np.isfinite(model.predict_proba(x)).all()
    assert model.__sklearn_tags__().input_tags.allow_nan


def test_constant_and_single_features():
    y = (X[:, 0] > 0).astype(int)
    assert ReservoirClassifier(nodes=20).fit(X[:, :1], y).score(X[:, :1], y) >= 0.9
    constant = np.column_stack([X[:, 0], np.ones(30)])
    assert ReservoirClassifier(nodes=20).fit(constant, y).score(constant, y) >= 0.9


def test_a_class_of_one_member():
    y = np.array(["rare", *np.where(X[1:, 0] > 0, "up", "down")])
    model = ReservoirClassifier(nodes=20, balance="none").fit(X, y)
    assert list(model.classes_) == ["down", "rare", "up"]
    assert model.predict_proba(X).shape == (30, 3)


def test_the_configuration_is_not_changed():
    config = {"reservoir": {"density": 0.5}}
    model = ReservoirClassifier(nodes=10, config=config).fit(X, Y)
    assert config == {"reservoir": {"density": 0.5}}
    assert model._fitted.model.file.config.reservoir.density == 0.5
    complete = ReservoirClassifier(config=rcdp_hpc.load_config(config), nodes=10).fit(X, Y)
    assert np.array_equal(model.predict_proba(X), complete.predict_proba(X))
