"""``rcdp average``: weights by rows, what is averaged besides, and models that do not belong together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rcdp_hpc.cli.commands import main
from rcdp_hpc.config import load_config
from rcdp_hpc.data.ranges import FeatureRanges
from rcdp_hpc.data.shards.index import load_index
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.deploy.average import average
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages

SETTINGS = (
    "search.generations=0", "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "training.epochs=1",
    "training.threads=1", "training.baseline=false", "readout.outputs=6", "readout.hidden=5",
)  # fmt: skip


def trained(out, *settings) -> ModelFile:
    run_stages(["prepare", "train"], load_config("digits", [*SETTINGS, *settings]), out)
    return ModelFile.read(out / "train/model.pt")


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Two runs of one configuration whose training rows differ."""
    folder = tmp_path_factory.mktemp("sites")
    trained(folder / "one", "data.class_keep_fractions=[]", "data.max_samples=800", "data.balance=none")
    trained(folder / "two", "run.seed=2")
    return [folder / "one", folder / "two"]


@pytest.fixture(scope="module")
def files(sites):
    return [ModelFile.read(site / "train/model.pt") for site in sites]


def test_weights_are_averaged_by_the_rows_that_are_not_synthetic(sites, files, tmp_path):
    one, two = files
    index = load_index(sites[1] / "shards")["splits"]["train"]
    assert sum(index["synthetic_counts"]) > 0
    assert two.rows == index["rows"] - sum(index["synthetic_counts"])
    result = average([sites[0], sites[1] / "train/model.pt"], tmp_path / "mean.pt")
    assert result.rows == [one.rows, two.rows]
    mean = ModelFile.read(tmp_path / "mean.pt")
    share = one.rows / (one.rows + two.rows)
    for name, value in mean.weights.items():
        expected = share * one.weights[name].double() + (1 - share) * two.weights[name].double()
        assert torch.allclose(value.double(), expected, rtol=1e-6, atol=1e-9), name
    assert mean.rows == one.rows + two.rows
    assert mean.shards not in (one.shards, two.shards)
    assert mean.data.ranges is not None
    assert np.array_equal(mean.data.ranges.values, one.data.ranges.values + two.data.ranges.values)
    probabilities = TrainedModel.load(tmp_path / "mean.pt").probabilities(np.zeros((3, 8, 8)), scaled=False)
    assert np.allclose(probabilities.sum(1), 1)
    assert [file.name for file in tmp_path.iterdir()] == ["mean.pt"]


def test_a_model_and_itself_are_the_model(sites, files, tmp_path):
    average([sites[0], sites[0]], tmp_path / "mean.pt", rows=[5, 7])
    average([sites[0], sites[0]], tmp_path / "mean.pt", rows=[5, 7])  # in place of an earlier one
    mean = ModelFile.read(tmp_path / "mean.pt")
    for name, value in files[0].weights.items():
        assert torch.allclose(mean.weights[name], value, rtol=1e-6)
    assert (mean.classes, mean.scale, mean.sample_shape) == (files[0].classes, files[0].scale, files[0].sample_shape)
    assert mean.config.readout == files[0].config.readout
    assert mean.data.reading == files[0].data.reading


def test_the_command_says_what_is_averaged_besides_weights(sites, tmp_path, capsys):
    to, samples = str(tmp_path / "mean.pt"), str(tmp_path / "new.npy")
    assert main(["average", str(sites[0]), str(sites[1]), "--to", to, "--rows", "1", "3"]) == 0
    text = capsys.readouterr()
    text = text.out + text.err
    assert "1 training rows, weight 0.2500" in text
    assert "running_mean, running_var, state_mean, state_scale" in text
    np.save(samples, np.zeros((2, 8, 8)))
    assert main(["predict", to, samples, "--to", str(tmp_path / "labels.csv")]) == 0


def written(file: ModelFile, path, **changes):
    replace(file, **changes).save(path)
    return path


def with_settings(file: ModelFile, section: str, **changes):
    part = getattr(file.config, section)
    return file.config.model_copy(update={section: part.model_copy(update=changes)})


def test_models_that_do_not_belong_together_are_refused(sites, files, tmp_path):
    one = files[0]
    assert one.data.ranges is not None
    standard = Standardization("standard", np.zeros(1), np.ones(1))
    cases = {
        "another configuration: reservoir.leak": {"config": with_settings(one, "reservoir", leak=0.123)},
        "another configuration: reservoir.seed": {"config": with_settings(one, "reservoir", seed=99)},
        "another configuration: loss.kind": {"config": with_settings(one, "loss", kind="focal")},
        "other classes": {"classes": [*one.classes[:-1], "ten"]},
        "other samples of the shape": {"sample_shape": (8, 9)},
        "other scale": {"scale": 2.0},
        "learned something else": {"learned": {"x": torch.ones(2)}},
        "standardised in another way": {"data": replace(one.data, standardization=standard)},
        "has the shape": {"weights": {**one.weights, "scores.bias": torch.zeros(11)}},
        "does not record the rows": {"rows": None},
    }
    for message, changes in cases.items():
        other = written(one, tmp_path / "other.pt", **changes)
        kind = DataDamagedError if message == "has the shape" else InputError
        with pytest.raises(kind, match=message):
            average([sites[0], other], tmp_path / "mean.pt")
        assert not (tmp_path / "mean.pt").exists()


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("readout", {"kind": "elm"}, "extreme learning machine"),
        ("parallel", {"replicas": "ensemble"}, "is an ensemble"),
        ("readout", {"members": 3}, "is an ensemble of 3 solved readouts"),
    ],
)
def test_models_whose_weights_do_not_correspond_are_refused(files, tmp_path, section, changes, message):
    path = written(files[0], tmp_path / "one.pt", config=with_settings(files[0], section, **changes))
    with pytest.raises(InputError, match=message):
        average([path, path], tmp_path / "mean.pt")


def test_missing_damaged_and_too_few_models_are_refused(sites, tmp_path):
    to = tmp_path / "mean.pt"
    with pytest.raises(InputError, match="at least two"):
        average(sites[:1], to)
    with pytest.raises(InputError, match="no such model"):
        average([sites[0], tmp_path], to)
    with pytest.raises(InputError, match="one of the models"):
        average(sites, sites[0] / "train/model.pt")
    with pytest.raises(InputError, match="positive number for each of the 2"):
        average(sites, to, rows=[5])
    (tmp_path / "bad.pt").write_bytes((sites[0] / "train/model.pt").read_bytes()[:-3])
    with pytest.raises(DataDamagedError):
        average([sites[0], tmp_path / "bad.pt"], to)
    assert main(["average", str(sites[0]), str(tmp_path / "none.pt"), "--to", str(to)]) == 2


def test_standardisations_and_ranges_are_those_of_all_rows(files, sites, tmp_path):
    rng = np.random.default_rng(1)
    parts = [rng.normal(3, 2, (30, 8)), rng.normal(-1, 5, (90, 8))]
    names = []
    for number, part in enumerate(parts):
        data = replace(
            files[0].data,
            standardization=Standardization("standard", part.mean(0), part.std(0), part.min(0)),
            ranges=FeatureRanges.of_blocks([(part[:, None], None)], "series", (1, 8)),
        )
        names.append(written(files[0], tmp_path / f"{number}.pt", data=data))
    result = average(names, tmp_path / "mean.pt", rows=[30, 90])
    assert result.statistics[0] == "standardisation of the samples"
    mean, rows = ModelFile.read(tmp_path / "mean.pt").data, np.concatenate(parts)
    assert mean.standardization is not None
    assert mean.ranges is not None
    assert np.allclose(mean.standardization.center, rows.mean(0))
    assert np.allclose(mean.standardization.deviation, rows.std(0))
    expected = FeatureRanges.of_blocks([(rows[:, None], None)], "series", (1, 8))
    for name in ("values", "minimum", "maximum", "mean", "deviation", "log_magnitude", "log_deviation"):
        assert np.allclose(getattr(mean.ranges, name), getattr(expected, name)), name
