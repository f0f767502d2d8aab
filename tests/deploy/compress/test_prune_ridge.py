"""A ridge readout with fewer features or nodes, against readouts that are solved from scratch."""

import csv

import numpy as np
import pytest
import torch
from launch import rcdp, run_ranks

from rcdp_hpc.config import load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.compress.nodes import node_groups, smaller_reservoir
from rcdp_hpc.deploy.compress.sizes import COLUMNS
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline import stages
from rcdp_hpc.pipeline.compression import compress
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.matrix_files import read_matrices
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.ridge import one_hot, solve
from rcdp_hpc.runtime.digests import read_sealed
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.solve import ridge_rows

SETTINGS = [
    "readout.kind=ridge", "search.generations=0", "reservoir.nodes=20", "reservoir.states=3", "reservoir.density=0.3",
    "reservoir.kernel=dense-fp32", "reservoir.batch_rows=512",
]  # fmt: skip
STAGES = ["prepare", "train"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a ridge readout of 20 nodes with 3 states each."""
    out = tmp_path_factory.mktemp("ridge") / "run"
    run_stages(STAGES, load_config("digits", SETTINGS), out)
    return RunDirectory(out)


@pytest.fixture(scope="module")
def rows(trained):
    """The states and labels of the training and the validation rows."""
    source = TrainedModel.load(trained.model).reservoir
    shards = ShardReader(trained.shards)
    splits = {name: shards.read(name, 0, shards.rows(name)) for name in ("train", "validation")}
    return {name: (source.drive(split.x).double().numpy(), split.y) for name, split in splits.items()}


@pytest.fixture(scope="module")
def few_features(trained, tmp_path_factory):
    """The run with a fifth of the features, and the splits that were read for it."""
    splits = set()
    target = RunDirectory(tmp_path_factory.mktemp("features") / "small")
    read = ShardReader._stored

    def recorded(self, split, *arguments):
        splits.add(split)
        return read(self, split, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardReader, "_stored", recorded)
        patch.setitem(stages._WORK, "evaluate", lambda *_: {})
        patch.setattr(stages, "_write_report", lambda _: None)
        compress(trained.path, target.path, keep=0.2, unit="features")
    return target, splits


def features_of(run):
    weights = ModelFile.read(run.model).weights["linear.weight"].numpy()
    return np.flatnonzero(weights.any(0)), weights


def test_the_smaller_readout_is_that_of_a_fit_to_its_features(few_features, rows):
    target, _ = few_features
    features, weights = features_of(target)
    assert len(features) == 12
    penalty = target.state("train")["result"]["penalty"]
    sums = GramSums(12, 10)
    for x, labels in rows.values():
        sums.add(x[:, features], one_hot(labels, 10))
    expected = solve(sums, penalty)
    np.testing.assert_allclose(weights[:, features].T, expected.weights, rtol=1e-3, atol=1e-5)
    bias = ModelFile.read(target.model).weights["linear.bias"].numpy()
    np.testing.assert_allclose(bias, expected.intercept, rtol=1e-3, atol=1e-5)


def test_size_and_penalty_are_selected_without_a_test_row(few_features):
    _, splits = few_features
    assert splits == {"train", "validation"}


def test_the_accuracy_at_every_size_is_that_of_a_fit_to_the_training_rows(few_features, rows):
    target, _ = few_features
    curve = read_sealed(target.train / "sizes.json")
    assert (curve["unit"], curve["groups"], curve["chosen"]) == ("features", 60, 12)
    (x, labels), (other, expected) = rows["train"], rows["validation"]
    for count in (60, 31, 12, 2):
        features = np.setdiff1d(np.arange(60), curve["removed"][: 60 - count])
        sums = GramSums(count, 10)
        sums.add(x[:, features], one_hot(labels, 10))
        accuracy = np.mean(solve(sums, curve["penalty"]).predict(other[:, features]).argmax(1) == expected)
        # Two scores of one row may be equal to rounding.
        assert curve["validation_accuracy"][60 - count] == pytest.approx(accuracy, abs=1.5 / len(expected))
    assert set(np.setdiff1d(np.arange(60), curve["removed"][:48])) == set(features_of(target)[0])


def test_the_table_has_a_row_for_every_size(few_features):
    target, _ = few_features
    with (target.train / "sizes.csv").open() as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS
    assert [int(row["left"]) for row in table] == list(range(60, 0, -1))
    assert table[0]["sparsity"] == "0"
    assert float(table[48]["sparsity"]) == pytest.approx(0.8)
    assert table[48]["weights"] == "120"
    assert [float(row["loss"]) for row in table] == sorted(float(row["loss"]) for row in table)


def test_the_training_of_the_new_run_is_finished(few_features):
    target, _ = few_features
    before = target.model.read_bytes()
    result = run_stages(["train"], target.config(), target.path)
    assert result["train"]["ended"] == "12 of 60 features are left"
    assert target.model.read_bytes() == before


def test_weights_of_a_ridge_readout_are_removed_by_features(trained, few_features, tmp_path):
    compress(trained.path, tmp_path / "small", keep=0.2)
    weights = ModelFile.read(RunDirectory(tmp_path / "small").model).weights["linear.weight"]
    assert torch.equal(weights, ModelFile.read(few_features[0].model).weights["linear.weight"])


def test_torch_removes_the_features_that_numpy_removes(trained, few_features, tmp_path, monkeypatch):
    monkeypatch.setattr(ridge_rows, "sums_device", lambda device: device)  # as on a GPU
    monkeypatch.setitem(stages._WORK, "evaluate", lambda *_: {})
    monkeypatch.setattr(stages, "_write_report", lambda _: None)
    target = RunDirectory(tmp_path / "small")
    compress(trained.path, target.path, keep=0.2, unit="features")
    (features, weights), (expected, other) = features_of(target), features_of(few_features[0])
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_allclose(weights, other, rtol=1e-5, atol=1e-7)
    curves = [read_sealed(run.train / "sizes.json") for run in (target, few_features[0])]
    assert curves[0]["removed"] == curves[1]["removed"]
    np.testing.assert_allclose(*(curve["validation_accuracy"] for curve in curves), atol=1e-2)


def test_nodes_are_removed_from_the_reservoir(trained, tmp_path):
    target = RunDirectory(tmp_path / "small")
    compress(trained.path, target.path, keep=0.4, unit="nodes")
    assert target.state("evaluate")["result"]["accuracy"] > 0.5
    assert (target.report / "sizes.png").read_bytes().startswith(b"\x89PNG")
    curve = read_sealed(target.train / "sizes.json")
    kept = np.setdiff1d(np.arange(20), curve["removed"][:12])
    reservoir = target.config().reservoir
    assert (reservoir.nodes, reservoir.matrices) == (8, str(target.matrices))
    source, smaller = (TrainedModel.load(run.model).reservoir for run in (trained, target))
    ((before,),), ((after,),) = source.matrices, smaller.matrices
    np.testing.assert_array_equal(after.recurrent.toarray(), before.recurrent.toarray()[np.ix_(kept, kept)])
    np.testing.assert_array_equal(after.input, before.input[kept])
    np.testing.assert_array_equal(after.bias, before.bias[kept])
    assert ModelFile.read(target.model).weights["linear.weight"].shape == (10, 24)
    # The record of the training is that of the smaller reservoir, which is not solved again.
    model = target.model.read_bytes()
    run_stages(["train"], target.config(), target.path)
    assert target.model.read_bytes() == model
    for keep, unit in ((0.5, "nodes"), (0.4, "features")):
        with pytest.raises(InputError, match=r"has a model with 8 of 20 nodes already: choose another folder \(--to\)"):
            compress(trained.path, target.path, keep=keep, unit=unit)
    compress(trained.path, target.path, keep=0.4, unit="nodes")
    assert target.model.read_bytes() == model


def test_the_features_of_a_node_are_its_values_in_all_parts():
    assert node_groups(FeatureShape(2, 2, 3)).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]


def test_a_smaller_reservoir_of_given_matrices(tmp_path):
    first = smaller_reservoir(load_config("digits", SETTINGS), (8, 8), np.array([7, 3, 5, 11]), tmp_path / "a.npz")
    given = ["reservoir.nodes=4", f"reservoir.matrices={first['reservoir.matrices']}"]
    config = load_config("digits", [*SETTINGS, *given])
    second = smaller_reservoir(config, (8, 8), np.array([0, 2]), tmp_path / "b.npz")
    assert second["reservoir.nodes"] == 2
    all_of, some = read_matrices(tmp_path / "a.npz", 4, 16), read_matrices(tmp_path / "b.npz", 2, 16)
    np.testing.assert_array_equal(some.input, all_of.input[[0, 2]])
    with pytest.raises(InputError, match="nodes to keep: expected some of 0 to 3"):
        smaller_reservoir(config, (8, 8), np.array([4]), tmp_path / "c.npz")


def test_matrices_of_the_user_are_kept_in_the_new_run(tmp_path):
    changes = smaller_reservoir(load_config("digits", SETTINGS), (8, 8), np.arange(0, 20, 2), tmp_path / "mine.npz")
    given = ["reservoir.nodes=10", f"reservoir.matrices={changes['reservoir.matrices']}"]
    run_stages(STAGES, load_config("digits", [*SETTINGS, *given]), tmp_path / "run")
    (tmp_path / "mine.npz").unlink()
    compress(tmp_path / "run", tmp_path / "small", keep=0.5, unit="features")
    small = RunDirectory(tmp_path / "small")
    assert small.config().reservoir.matrices == str(small.matrices)
    assert len(features_of(small)[0]) == 15


def test_a_dictionary_is_taken_from_the_run(tmp_path):
    learned = [
        "extractor.kind=dictionary", "extractor.patch=3", "extractor.atoms=6", "extractor.pool=2",
        "extractor.patches=500", "reservoir.kind=none",
    ]  # fmt: skip
    run_stages(STAGES, load_config("digits", [*SETTINGS, *learned]), tmp_path / "run")
    compress(tmp_path / "run", tmp_path / "small", keep=0.5)
    run, small = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "small")
    assert len(features_of(small)[0]) == 24
    before, after = ModelFile.read(run.model).learned, ModelFile.read(small.model).learned
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not (small.train / "dictionary.pt").exists()


@pytest.fixture(scope="module")
def with_sums(tmp_path_factory):
    """A run that keeps its sums."""
    out = tmp_path_factory.mktemp("sums") / "run"
    run_stages(STAGES, load_config("digits", [*SETTINGS, "readout.keep_sums=true", "data.balance=none"]), out)
    return RunDirectory(out)


def test_rows_that_a_run_has_forgotten_are_not_summed_again(with_sums, tmp_path):
    changes = {"readout.without_units": ["train-00000"]}
    (with_sums.train / "sums.npz").rename(tmp_path / "sums.npz")
    with pytest.raises(InputError, match=r"readout.without_units: .* has no sums that leave out these rows"):
        compress(with_sums.path, tmp_path / "small", keep=0.5, changes=changes)
    (tmp_path / "sums.npz").rename(with_sums.train / "sums.npz")


def test_kept_sums_are_used_instead_of_training_rows(with_sums, tmp_path, caplog):
    run, small = with_sums, RunDirectory(tmp_path / "small")
    with caplog.at_level("INFO"):
        compress(run.path, small.path, keep=0.25)
    assert f"the sums in {run.train / 'sums.npz'} are used: no training row is read" in caplog.text
    assert len(features_of(small)[0]) == 15
    (run.train / "sums.npz").unlink()
    compress(run.path, tmp_path / "again", keep=0.25)
    one, two = (features_of(RunDirectory(tmp_path / name))[1] for name in ("small", "again"))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "unit", "message"),
    [
        ({"readout.kind": "elm"}, "features", "readout.kind = 'elm': only the features of a ridge readout"),
        ({}, "units", "unit = 'units': a ridge readout has no hidden units; choose 'features' or 'nodes'"),
        (
            {"readout.members": 3, "readout.member_rows": "under_sampled", "data.balance": "none"},
            "features",
            "readout.members = 3: features are removed from a single ridge readout",
        ),
        ({"reservoir.kind": "none"}, "nodes", "unit = 'nodes' with reservoir.kind = 'none'"),
        ({"reservoir.layers": 2}, "nodes", "unit = 'nodes' with reservoir.layers = 2: only a single reservoir"),
        ({"reservoir.leak_low": 0.1}, "nodes", "unit = 'nodes' with reservoir.leak_low = 0.1"),
    ],
)
def test_what_cannot_be_reduced_is_refused(changes, unit, message, trained, tmp_path):
    with pytest.raises(InputError) as refusal:
        compress(trained.path, tmp_path / "small", keep=0.5, unit=unit, changes=changes)
    assert message in str(refusal.value)
    assert not RunDirectory(tmp_path / "small").model.exists()


@pytest.mark.mpi
def test_two_ranks_remove_the_same_features(trained, few_features, tmp_path):
    small = RunDirectory(tmp_path / "small")
    command = rcdp("compress", str(trained.path), "--to", str(small.path), "--keep", "0.2", "--unit", "features")
    done = run_ranks(2, command)
    assert done.returncode == 0, done.stdout
    one, two = (read_sealed(run.train / "sizes.json") for run in (few_features[0], small))
    assert one["removed"] == two["removed"]
    assert one["validation_accuracy"] == two["validation_accuracy"]
    one, two = (ModelFile.read(run.model).weights["linear.weight"] for run in (few_features[0], small))
    assert torch.equal(one, two)
