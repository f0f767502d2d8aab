"""`rcdp compress`: what it refuses, and what the new run directory holds."""

from __future__ import annotations

import pytest

from rcdp_hpc.cli import main
from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.pipeline.compression import compress
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory

SETTINGS = [
    "data.class_keep_fractions=[]", "data.shards=1", "search.generations=0", "reservoir.nodes=20",
    "reservoir.kernel=dense-fp32", "reservoir.batch_rows=64", "readout.hidden=12", "readout.outputs=10",
    "training.epochs=3", "training.threads=1", "training.baseline=false", "run.progress=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """A trained and evaluated run of the network of eq. 11."""
    out = tmp_path_factory.mktemp("compress") / "run"
    run_stages(["prepare", "train", "evaluate"], load_config("digits", SETTINGS), out)
    return RunDirectory(out)


@pytest.fixture(scope="module")
def pruned(run):
    """The result of pruning a fifth of the weights of `run`."""
    return compress(run.path, run.path.parent / "pruned", keep=0.2, changes={"training.epochs": 4})


def zeros(file: ModelFile) -> float:
    matrices = [values for values in file.weights.values() if values.ndim > 1]
    return 1 - sum(int(values.count_nonzero()) for values in matrices) / sum(values.numel() for values in matrices)


def test_a_pruned_model_has_the_given_share_of_weights(run, pruned):
    new = RunDirectory(pruned.to)
    assert zeros(ModelFile.read(new.model)) == pytest.approx(0.8, abs=1e-3)
    assert pruned.after.size.nonzero < 0.4 * pruned.before.size.nonzero
    assert pruned.after.size.sparse_flops < pruned.before.size.sparse_flops
    assert pruned.before.scores["accuracy"] == run.state("evaluate")["result"]["accuracy"]
    assert pruned.after.scores["accuracy"] == new.state("evaluate")["result"]["accuracy"] > 0.2
    assert new.state("train")["result"]["weights_left"] == pytest.approx(0.2, abs=1e-3)
    assert new.shards.is_symlink()
    assert new.shards.resolve() == run.shards
    assert any("other than 0" in line for line in pruned.lines())


def test_the_same_command_again_changes_nothing(run, pruned):
    model = RunDirectory(pruned.to).model.read_bytes()
    again = compress(run.path, pruned.to, keep=0.2, changes={"training.epochs": 4})
    assert again == pruned
    assert RunDirectory(pruned.to).model.read_bytes() == model


def test_a_model_is_pruned_again(run, pruned, tmp_path):
    small = compress(pruned.to, tmp_path / "again", keep=0.05, changes={"training.epochs": 2})
    assert zeros(ModelFile.read(RunDirectory(small.to).model)) == pytest.approx(0.95, abs=1e-3)
    assert RunDirectory(small.to).shards.resolve() == run.shards


def test_units_are_removed_from_the_network(run, tmp_path):
    small = compress(run.path, tmp_path / "units", keep=0.5, unit="units", changes={"training.epochs": 2})
    new = RunDirectory(small.to)
    assert (new.config().readout.hidden, new.config().readout.outputs) == (6, 5)
    assert ModelFile.read(new.model).weights["inner.weight"].shape == (6, 5)
    assert small.after.size.trained < 0.6 * small.before.size.trained
    again = compress(run.path, new.path, keep=0.5, unit="units", changes={"training.epochs": 2})
    assert again == small


def test_nodes_of_the_reservoir_are_removed(run, tmp_path):
    small = compress(run.path, tmp_path / "nodes", keep=0.5, unit="nodes", changes={"training.epochs": 2})
    new = RunDirectory(small.to)
    file = ModelFile.read(new.model)
    assert new.config().reservoir.nodes == 10
    assert file.matrices is not None
    assert file.weights["output_map.weight"].shape[1] * 2 == ModelFile.read(run.model).weights["state_mean"].numel()
    assert compress(run.path, new.path, keep=0.5, unit="nodes", changes={"training.epochs": 2}) == small


def test_the_new_run_is_an_ordinary_one(pruned, capsys):
    assert main(["status", str(pruned.to)]) == 0
    assert "evaluate  done" in capsys.readouterr().out
    assert main(["verify", str(pruned.to)]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 0.0}, r"keep = 0: expected a share above 0"),
        ({"keep": 1.5}, r"keep = 1.5: expected a share above 0"),
        ({"unit": "layers"}, r"unit = 'layers': expected one of weights"),
        ({"bits": 4}, r"bits = 4: expected 32"),
        ({}, r"nothing to do"),
        ({"changes": {"training.epochs": 2}}, r"nothing to do"),
        ({"keep": 0.5, "unit": "features"}, r"choose 'weights', 'units' or 'nodes'"),
        ({"keep": 0.5, "changes": {"parallel.local_steps": 4}}, r"ranks that step by themselves would remove"),
        ({"keep": 0.5, "changes": {"readout.hiden": 2}}, r"readout\.hiden"),
        ({"keep": 0.5, "changes": {"training.epochs": 0}}, r"training\.epochs"),
        ({"keep": 0.5, "changes": {"readout.hidden": 5}}, r"training\.initial = .*has the shape \(12, 10\)"),
    ],
)
def test_what_cannot_be_done_is_refused(run, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        compress(run.path, tmp_path / "new", **options)


def test_the_run_itself_and_what_is_no_run_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="the run itself"):
        compress(run.path, run.path, keep=0.5)
    with pytest.raises(InputError, match="there is no trained model yet"):
        compress(tmp_path / "none", tmp_path / "new", keep=0.5)
    other = tmp_path / "other"
    (other / "shards").mkdir(parents=True)
    with pytest.raises(InputError, match="is not a link to the data of"):
        compress(run.path, other, keep=0.5)


def test_the_command_line_refuses_a_share_outside_its_bounds(run, capsys):
    for share in ("0", "1.1", "nan", "half"):
        with pytest.raises(SystemExit) as ended:
            main(["compress", str(run.path), "--to", str(run.path) + "-x", f"--keep={share}"])
        assert ended.value.code == 2
        assert "expected a share above 0 and at most 1" in capsys.readouterr().err


def test_a_training_starts_from_a_model(run, tmp_path):
    settings = [*SETTINGS, "training.epochs=1", "optimizer.learning_rate=1e-9", f"training.initial={run.path}"]
    out = RunDirectory(tmp_path / "fine")
    run_stages(["prepare", "train"], load_config("digits", settings), out.path)
    before, after = ModelFile.read(run.model).weights, ModelFile.read(out.model).weights
    assert (before["inner.weight"] - after["inner.weight"]).abs().max() < 1e-4
    missing = load_config("digits", [*settings, f"training.initial={tmp_path / 'none'}"])
    with pytest.raises(InputError, match="there is no model"):
        run_stages(["prepare", "train"], missing, tmp_path / "missing")
