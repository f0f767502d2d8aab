"""ReservoirClassifier: accuracy, the same model as the command line, and the tools of scikit-learn."""

from __future__ import annotations

import copy
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_wine
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rcdp_hpc
from rcdp_hpc.sklearn import ReservoirClassifier

WINE, CULTIVARS = load_wine(return_X_y=True)


def series(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Sines of 12 to 40 steps in two features; the classes are three frequencies, the phase and the noise random."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = []
    for label in y:
        steps = np.arange(rng.integers(12, 41))
        angle = (0.3 + 0.3 * label) * steps + rng.uniform(0, 6.3)
        x.append(np.column_stack([np.sin(angle), np.cos(angle)]) + rng.normal(0, 0.3, (len(steps), 2)))
    return x, np.array(["slow", "medium", "fast"])[y]


def folders_in_memory() -> set[str]:
    """Temporary folders of fits in /dev/shm; other processes may have some."""
    return {path.name for path in Path("/dev/shm").glob("rcdp-fit-*")}


@pytest.fixture(scope="module")
def fitted() -> ReservoirClassifier:
    return ReservoirClassifier(nodes=60).fit(WINE[::2], CULTIVARS[::2])


def test_wine():
    x, x_test, y, y_test = train_test_split(WINE, CULTIVARS, test_size=0.5, random_state=0, stratify=CULTIVARS)
    model = ReservoirClassifier().fit(x, y)
    assert model.score(x_test, y_test) >= 0.95
    assert model.results_["train"]["validation_accuracy"] >= 0.9
    assert set(model.results_["prepare"]) == {"train", "validation"}


def test_series_of_unequal_length():
    x, y = series(120, 0)
    x_test, y_test = series(90, 1)
    model = ReservoirClassifier(nodes=100, kind="series").fit(x, y)
    assert model.score(x_test, y_test) >= 0.9
    assert list(model.classes_) == ["fast", "medium", "slow"]
    assert model.n_features_in_ == 2
    # A series by itself, and series of one length in an array, have the probabilities that they have in the list.
    together = model.predict_proba(x_test)
    assert model.predict_proba(x_test[:1]) == pytest.approx(together[:1], abs=1e-6)
    equal = [place for place, one in enumerate(x_test) if len(one) == len(x_test[0])]
    assert model.predict_proba(np.stack([x_test[place] for place in equal])) == pytest.approx(together[equal], abs=1e-6)
    with pytest.raises(ValueError, match="expecting 2 features"):
        model.predict([np.ones((5, 3))])


@pytest.mark.parametrize(("config", "floor"), [("digits", 0.5), (None, 0.9)])
def test_the_command_line_has_the_same_accuracy(config, floor, tmp_path):
    """The same rows in training, validation and test, and the same settings; the profile has a search and epochs."""
    x, y = load_digits(return_X_y=True)
    x, y = (x.reshape(-1, 8, 8) if config else x)[:900], y[:900]
    np.savez(tmp_path / "digits.npz", x=x[:700], y=y[:700], x_test=x[700:], y_test=y[700:])
    settings = {"training": {"tree_baseline": "never"}, "reservoir": {"kernel": "dense-fp32"}}
    if config:
        settings |= {"search": {"generations": 1, "population": 2}, "data": {"kind": "series"}}
        settings["training"] |= {"epochs": 4}
    overrides = ["data.source=npz", f"data.path={tmp_path}/digits.npz"]
    command = rcdp_hpc.load_config(config or {}, overrides, **settings)
    scores = rcdp_hpc.run(command, tmp_path / "run")["evaluate"]
    base = settings if config is None else rcdp_hpc.load_config(config, data={"source": "arrays"}).model_dump()
    for section, keys in settings.items():
        base.setdefault(section, {}).update(keys)
    model = ReservoirClassifier(config=base).fit(x[:700], y[:700])
    predicted = rcdp_hpc.predict(tmp_path / "run", x[700:])
    assert np.count_nonzero(model.predict(x[700:]) == y[700:]) == scores["correct"]
    assert np.array_equal(model.predict(x[700:]).astype(str), predicted.labels)
    assert model.predict_proba(x[700:]) == pytest.approx(predicted.probabilities, abs=1e-6)
    assert scores["accuracy"] >= floor
    # The estimator that is made from the run predicts the same labels, as texts.
    loaded = ReservoirClassifier.from_run(tmp_path / "run")
    assert np.array_equal(loaded.predict(x[700:]), predicted.labels)


def test_images():
    x, y = load_digits(return_X_y=True)
    x = (x[:400] * 15).astype(np.uint8).reshape(-1, 8, 8)
    model = ReservoirClassifier(nodes=100).fit(x[:300], y[:300])
    assert model.score(x[300:], y[300:400]) >= 0.85


def test_the_tools_of_scikit_learn():
    pipeline = make_pipeline(StandardScaler(), ReservoirClassifier(nodes=50))
    assert cross_val_score(pipeline, WINE, CULTIVARS, cv=3, error_score="raise").mean() >= 0.93
    key = "reservoirclassifier__input_scaling"
    search = GridSearchCV(pipeline, {key: [1e-4, 0.5]}, cv=2, error_score="raise").fit(WINE, CULTIVARS)
    assert search.best_params_ == {key: 0.5}
    calibrated = CalibratedClassifierCV(ReservoirClassifier(nodes=50), cv=2).fit(WINE, CULTIVARS)
    assert calibrated.score(WINE, CULTIVARS) >= 0.93


def test_parallel_processes():
    x, y = series(60, 0)
    model = ReservoirClassifier(nodes=40, kind="series")
    alone = cross_val_score(model, x, y, cv=2, error_score="raise")
    assert list(cross_val_score(model, x, y, cv=2, n_jobs=2, error_score="raise")) == list(alone)


def test_clone_and_pickle(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(WINE), fitted.predict_proba(WINE))
    assert np.array_equal(copy.deepcopy(fitted).predict(WINE), fitted.predict(WINE))
    assert not hasattr(clone(fitted), "classes_")
    assert clone(fitted).get_params() == fitted.get_params()
    unfitted = pickle.loads(pickle.dumps(ReservoirClassifier(nodes=7, random_state=3)))
    assert unfitted.get_params() == ReservoirClassifier(nodes=7, random_state=3).get_params()
    assert len(pickle.dumps(fitted)) < 3 * len(fitted._fitted.content)


def test_a_second_fit_replaces_the_first(fitted):
    model = clone(fitted).fit(WINE[:, :4], CULTIVARS == 1)
    model.fit(WINE[::2], CULTIVARS[::2])
    assert np.array_equal(model.predict_proba(WINE), fitted.predict_proba(WINE))


def test_random_state(fitted):
    def probabilities(random_state):
        return ReservoirClassifier(nodes=20, random_state=random_state).fit(WINE, CULTIVARS).predict_proba(WINE)

    first, generator = probabilities(5), np.random.RandomState(0)
    assert np.array_equal(first, probabilities(np.int64(5)))
    assert not np.allclose(first, probabilities(6))
    assert not np.allclose(probabilities(generator), probabilities(generator))


def test_the_saved_model(fitted, tmp_path):
    fitted.save(tmp_path / "model.pt")
    np.save(tmp_path / "new.npy", WINE)
    expected = fitted.predict(WINE).astype(str)
    assert np.array_equal(rcdp_hpc.predict(rcdp_hpc.load_model(tmp_path / "model.pt"), WINE).labels, expected)
    counts = rcdp_hpc.predict(tmp_path / "model.pt", tmp_path / "new.npy", to=tmp_path / "labels.csv").counts
    assert sum(counts.values()) == len(WINE)
    assert ReservoirClassifier.from_run(tmp_path / "model.pt").predict(WINE).tolist() == expected.tolist()


def test_a_fit_prints_nothing_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    for name in ("elsewhere", "temporary", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = folders_in_memory()
    ReservoirClassifier(nodes=20, config={"reservoir": {"kernel": "dense-fp32"}}).fit(WINE, CULTIVARS).predict(WINE)
    ReservoirClassifier(nodes=20, folder=tmp_path / "temporary", epochs=1).fit(WINE, CULTIVARS)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not list((tmp_path / "temporary").iterdir())
    assert folders_in_memory() <= before
    assert capfd.readouterr() == ("", "")


def test_large_runs_are_not_in_memory(monkeypatch):
    from rcdp_hpc.sklearn import folders

    assert folders._default_parent(folders.MOST_MEMORY_BYTES + 1) is None
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    assert folders._default_parent(500) is None


def test_groups_stay_on_one_side_of_the_validation(caplog):
    vineyards = [f"v{row % 20}" for row in range(len(WINE))]
    model = ReservoirClassifier(nodes=60, balance="none").fit(WINE, CULTIVARS, groups=vineyards)
    # Of 178 samples, 20 groups of 8 or 9.
    assert model.results_["prepare"]["validation"] in (16, 17, 18)
    assert "separate test set" not in caplog.text
    with pytest.raises(ValueError, match=r"groups has shape .3,. and type int64, expected one text or whole number"):
        ReservoirClassifier().fit(WINE, CULTIVARS, groups=[1, 2, 3])
