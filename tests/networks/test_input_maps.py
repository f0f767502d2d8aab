"""Principal components, random projections and selected features before the reservoir."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks.runs import assert_prediction_equals_evaluation
from settings import config_of
from sklearn.decomposition import PCA

from rcdp_hpc.config import DataFacts, load_config, with_kind_defaults
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.networks.input_maps import projection_matrix
from rcdp_hpc.networks.learned_source import load_learned
from rcdp_hpc.networks.principal_components import principal_components
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.training.solve.dictionary_fit import ShardSamples

CPU = torch.device("cpu")
LEARNED = ("pca", "selection")


class Samples:
    """Training samples in memory; a `rcdp_hpc.networks.learned_source.TrainingSamples`."""

    def __init__(self, x, y=None):
        self.x = x.astype(np.float32)
        self.y = y

    @property
    def sample_shape(self):
        return self.x.shape[1:]

    def originals(self, count):
        return self.x[:count], None

    def labelled(self, count):
        return self.x[:count], self.y[:count]


def source_of(kind, shape, components, **keys):
    settings = {"reservoir__kind": "none", "reservoir__sequence": "rows", **keys}
    return make_source(config_of(extractor__kind=kind, extractor__components=components, **settings), shape, CPU)


def learned(kind, samples, components, **keys):
    source = source_of(kind, samples.sample_shape, components, **keys)
    state, _ = source.learn(samples, 1)
    source.learned.load_state_dict(state)
    return source


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    mixing = rng.standard_normal((30, 30))
    return (rng.standard_normal((200, 30)) @ mixing + 3).reshape(200, 5, 6)


@pytest.mark.parametrize("whiten", [False, True])
def test_components_are_those_of_scikit_learn(images, whiten):
    flat = images.reshape(200, 30)
    found = principal_components(flat.astype(np.float32), 7, whiten)
    peer = PCA(7, whiten=whiten, svd_solver="full").fit(flat)
    mine, theirs = (flat - found.mean) @ found.matrix.T, peer.transform(flat)
    signs = np.sign((mine * theirs).sum(0))
    # Scikit-learn divides by the standard deviation with n - 1.
    np.testing.assert_allclose(mine * signs, theirs * (math.sqrt(200 / 199) if whiten else 1), rtol=1e-3, atol=1e-3)
    assert found.share == pytest.approx(peer.explained_variance_ratio_.sum(), rel=1e-5)
    assert (np.take_along_axis(found.matrix, np.abs(found.matrix).argmax(1)[:, None], 1) > 0).all()


def test_all_steps_have_the_same_components(images):
    source = learned("pca", Samples(images), 4)
    rows = source.drive(images.astype(np.float32)).numpy().reshape(200, 5, 4)
    found = principal_components(images.reshape(1000, 6).astype(np.float32), 4, False)
    np.testing.assert_allclose(rows, (images - found.mean) @ found.matrix.T, rtol=1e-4, atol=1e-4)
    assert source.feature_shape.steps == 5


def test_a_whole_sample_becomes_one_step(images):
    source = learned("pca", Samples(images), 9, extractor__over="sample", extractor__whiten=True)
    rows = source.drive(images.astype(np.float32))
    assert (source.feature_shape.steps, source.feature_shape.width) == (1, 9)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(9), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(rows.mean(0), torch.zeros(9), rtol=0, atol=1e-4)


def test_constant_samples_have_components_of_zeros():
    samples = Samples(np.full((20, 4), 2.0))
    assert not learned("pca", samples, 2, extractor__whiten=True).drive(samples.x).any()


@pytest.mark.parametrize("projection", ["gaussian", "sparse"])
def test_a_projection_keeps_squared_lengths_in_the_mean(projection, rng):
    matrix = projection_matrix(projection, 400, 300, 3)
    lengths = np.square(rng.standard_normal((50, 300)) @ matrix.T).sum(1)
    assert lengths.mean() == pytest.approx(300, rel=0.05)
    assert matrix.mean() == pytest.approx(0, abs=0.001)
    assert np.square(matrix).mean() == pytest.approx(1 / 400, rel=0.02)
    if projection == "sparse":
        assert np.mean(matrix == 0) == pytest.approx(2 / 3, abs=0.01)
        assert len(np.unique(np.abs(matrix))) == 2


def test_a_projection_follows_from_the_seed_of_the_reservoir(images):
    samples = images.astype(np.float32)
    one, same, other = (
        source_of("random_projection", (5, 6), 3, reservoir__seed=seed).drive(samples) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    matrix = projection_matrix("gaussian", 3, 6, 1)
    np.testing.assert_allclose(one.view(200, 5, 3), images @ matrix.T, rtol=1e-4, atol=1e-4)


def test_selected_features_are_passed_on_in_their_order(rng):
    x = rng.standard_normal((300, 4, 9)).astype(np.float32)
    y = (x[:, :, 2].sum(1) > 0) + 2 * (x[:, :, 7].sum(1) > 0)
    source = learned("selection", Samples(x, y), 2)
    assert source.learned.chosen.tolist() == [2, 7]
    np.testing.assert_array_equal(source.drive(x).view(300, 4, 2), x[:, :, [2, 7]])


def test_channels_of_images_are_cut_as_the_reservoir_cuts_them(rng):
    x = rng.random((40, 4, 5, 3)).astype(np.float32)
    source = learned("pca", Samples(x), 2, reservoir__sequence="columns")
    assert source.learned.inputs == 12
    torch.testing.assert_close(source.states(x.reshape(40, 4, 15)), source.drive(x))


@pytest.mark.parametrize("kind", [*LEARNED, "random_projection"])
def test_more_components_than_features_are_refused(kind):
    over_steps = config_of(extractor__kind=kind, extractor__components=13, reservoir__sequence="rows")
    with pytest.raises(InputError, match=r"components = 13 is more than the 12 features of a step .* at most 12"):
        extractor_of(over_steps, (16, 12)).checked_shape(None)
    over_samples = config_of(extractor__kind=kind, extractor__components=193, extractor__over="sample")
    with pytest.raises(InputError, match=r"components = 193 is more than the 192 values of a sample"):
        make_source(over_samples, (16, 12), CPU)


@pytest.mark.parametrize("kind", [*LEARNED, "random_projection"])
def test_series_of_unequal_length_are_refused(kind):
    with pytest.raises(InputError, match=f"'{kind}' reads samples of one length"):
        extractor_of(config_of(extractor__kind=kind, extractor__components=2), (16, 12)).checked_shape(9)


def test_a_selection_of_features_that_are_not_there_is_damaged():
    source = source_of("selection", (8, 8), 2)
    with pytest.raises(DataDamagedError, match="a step has 8 features only"):
        load_learned(source, {"chosen": torch.tensor([1, 8])})


@pytest.mark.parametrize("kind", LEARNED)
def test_training_samples_that_are_not_finite_are_refused(kind):
    x = np.zeros((20, 4))
    x[3, 2] = np.nan
    with pytest.raises(InputError, match=f"extractor.kind = '{kind}': training samples contain values that are not"):
        learned(kind, Samples(x, np.arange(20) % 2), 2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("digits")
    run_stages(["prepare"], load_config("digits", ["data.max_samples=300", "search.generations=0"]), out)
    return ShardReader(out / "shards")


@pytest.mark.parametrize("kind", LEARNED)
def test_no_validation_row_test_row_or_synthetic_row_is_read(kind, prepared, monkeypatch):
    read, stored = [], ShardReader._stored

    def recorded(self, split, start, stop, names):
        columns = stored(self, split, start, stop, names)
        read.append((split, columns))
        return columns

    monkeypatch.setattr(ShardReader, "_stored", recorded)
    source = source_of(kind, (8, 8), 3)
    state, _ = source.learn(ShardSamples(prepared, 1), 1)
    assert {split for split, _ in read} == {"train"}
    synthetic = prepared.read("train", 0, prepared.rows("train")).synthetic.astype(bool)
    assert synthetic.any()
    everything = prepared.read("train", 0, prepared.rows("train"))
    alone = Samples(everything.x[~synthetic], everything.y[~synthetic].astype(np.int64))
    expected, _ = source.learn(alone, 1)
    assert all(torch.equal(value, state[name]) for name, value in expected.items())


@pytest.mark.parametrize("kind", LEARNED)
def test_other_test_samples_change_nothing(kind, tmp_path, rng):
    train = rng.random((120, 6)), np.arange(120) % 3
    settings = [f"extractor.kind={kind}", "extractor.components=3", "reservoir.nodes=10", "search.generations=0"]
    for name, seed in (("a", 1), ("b", 2)):
        generator = np.random.default_rng(seed)
        test = 100 * generator.random((30, 6)), np.arange(30) % 3
        config = load_config("table", settings, data={"source": "arrays"})
        run_stages(["prepare", "train"], config, tmp_path / name, data=train, test=test)
    one, two = (ModelFile.read(tmp_path / name / "train/model.pt").learned for name in "ab")
    assert one
    assert all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("pca", ["extractor.whiten=true"]),
        ("random_projection", ["extractor.projection=sparse"]),
        ("selection", ["extractor.over=sample", "extractor.components=30", "extractor.method=genetic"]),
        ("pca", ["reservoir.kind=none"]),
    ],
)
def test_whole_runs_predict_as_they_evaluate(kind, settings, tmp_path):
    common = ["search.generations=0", "readout.kind=ridge", "reservoir.nodes=60", "reservoir.states=1"]
    config = load_config("digits", [*common, f"extractor.kind={kind}", "extractor.components=8", *settings])
    results = run_stages(["prepare", "train", "evaluate"], config, tmp_path)
    assert results["evaluate"]["accuracy"] > 0.8
    assert_prediction_equals_evaluation(tmp_path, results["evaluate"])
    learned_part = ModelFile.read(tmp_path / "train/model.pt").learned
    assert bool(learned_part) == (kind in LEARNED)  # what follows from a seed is not stored


def test_a_search_reads_the_reduced_features(tmp_path, caplog):
    settings = [
        "data.max_samples=250", "extractor.kind=pca", "extractor.components=5", "reservoir.nodes=10",
        "search.population=3", "search.generations=2", "search.threads=1", "readout.kind=ridge",
    ]  # fmt: skip
    with caplog.at_level("INFO", logger="rcdp_hpc"):
        run_stages(["prepare", "search", "train"], load_config("digits", settings), tmp_path)
    assert "candidates read its features, computed once (8 steps of 5 features per sample)" in caplog.text
    assert caplog.text.count("5 principal components of 16 values keep") == 1


def test_defaults_of_a_kind_of_data_keep_the_steps(tmp_path):
    def completed(kind, shape, over):
        text = f'[extractor]\nkind = "pca"\nover = "{over}"\n[search]\ngenerations = 0\n'
        (tmp_path / "my.toml").write_text(text)
        return with_kind_defaults(load_config(tmp_path / "my.toml"), DataFacts(kind, shape))

    assert completed("series", (40, 30), "steps").reservoir.differences
    assert not completed("series", (40, 30), "sample").reservoir.differences
    assert completed("images", (32, 32), "steps").reservoir.sequence == "both"
