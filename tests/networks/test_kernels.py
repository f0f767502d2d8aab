"""Random convolution kernels: features computed by a direct loop, learning, and whole runs with a reservoir."""

from __future__ import annotations

import json
import os
from itertools import combinations

import numpy as np
import pytest
import torch
from launch import rcdp, run_ranks
from settings import config_of
from whole_runs import flags

from rcdp_hpc.config import ExtractorSection, ReservoirSection, load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.networks import kernel_outputs
from rcdp_hpc.networks import kernels as kernels_module
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.networks.kernel_learning import learn
from rcdp_hpc.networks.kernel_source import KernelSource
from rcdp_hpc.networks.kernels import RandomKernels, dilations_for
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.identity_source import make_reservoir
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.solve.dictionary_fit import learn_extractor, sampled_originals

CPU = torch.device("cpu")
ALL = ["values", "differences", "standardised"]
TRIPLES = list(combinations(range(9), 3))


def section(**keys) -> ExtractorSection:
    return ExtractorSection(**{"kind": "kernels", "kernels": 84 * 8, "kernel_inputs": ALL, **keys})


def series(rows: int, steps: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, steps, channels, generator=torch.Generator().manual_seed(seed)).cumsum(1)


def learned(channels: int = 1, steps: int = 33, **keys) -> RandomKernels:
    kernels = RandomKernels(section(**keys), channels, seed=4)
    learn(kernels, series(20, steps, channels, seed=7), None, seed=5)
    return kernels


def read(name: str, x: np.ndarray) -> np.ndarray:
    """Return an input of the kernels for one series (steps, channels)."""
    if name == "differences":
        return np.diff(x, axis=0, prepend=x[:1])
    if name == "standardised":
        deviation = x.std(0)
        return (x - x.mean(0)) / np.where(deviation, deviation, np.inf)
    return x


def output(x: np.ndarray, triple: tuple[int, ...], dilation: int, channels: list[int]) -> np.ndarray:
    """Return the output of one kernel on one series (steps, channels), by the definition."""
    found = np.zeros(len(x))
    for t in range(len(x)):
        for j in range(9):
            at = t + (j - 4) * dilation
            if 0 <= at < len(x):
                found[t] += (2 if j in triple else -1) * x[at, channels].sum()
    return found


def by_loop(kernels: RandomKernels, x: np.ndarray) -> np.ndarray:
    """Return the features of one series (steps, channels), by the definition."""
    found, row = [], 0
    for place, (name, share) in enumerate(zip(kernels.inputs, kernels.bias_counts, strict=True)):
        given = read(name, x.astype(np.float64))
        for number in range(share):
            dilation = int(kernels.dilations[row])
            subsets = kernels.subsets(place, number)
            earlier = kernels.dilations[row - number : row].tolist().count(dilation)
            pairs = list(dict.fromkeys(triple[:2] for triple in TRIPLES))
            for k, triple in enumerate(TRIPLES):
                channels = [0] if subsets is None else subsets[pairs.index(triple[:2])]
                above = output(given, triple, dilation, channels) > float(kernels.biases[row, k])
                if earlier % 2 and len(above) > 8 * dilation:
                    above = above[4 * dilation : len(above) - 4 * dilation]
                found.append(above.mean())
            row += 1
    return np.array(found)


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_a_direct_loop(channels):
    kernels, x = learned(channels), series(5, 33, channels)
    found = kernels(x)
    assert found.shape == (5, 84 * 8)
    assert sorted(set(kernels.dilations.tolist())) == [1, 2, 4]
    np.testing.assert_allclose(found, [by_loop(kernels, one) for one in x.numpy()], atol=1e-6)
    # Features say something: few are the same for all series.
    assert (found.std(0) > 0).float().mean() > 0.8


def test_two_kernels_by_hand():
    kernels = RandomKernels(section(kernels=168, kernel_inputs=["values"]), 1, seed=0)
    kernels.biases.fill_(2.5)
    x = torch.zeros(1, 12, 1)
    x[0, 5] = 1.0
    # The value 1 meets weight j at step 9 - j, which gives 2 at three steps, and never more than the bias.
    assert not kernels(x).any()
    # The value 3 gives 6 at three of 12 steps; without ends of 4, steps 4 to 7, which weights 5, 4, 3 and 2 meet.
    found = kernels(3 * x)[0].view(2, 84)
    assert (found[0] == 0.25).all()
    assert found[1].tolist() == [len(set(triple) & {2, 3, 4, 5}) / 4 for triple in TRIPLES]


@pytest.mark.parametrize("channels", [1, 2])
def test_padding_does_not_change_features(channels):
    kernels, x = learned(channels), series(7, 33, channels)
    lengths = [33, 5, 17, 33, 9, 1, 26]
    for row, length in enumerate(lengths):
        x[row, length:] = float("nan")
    found = kernels(x, lengths)
    expected = [by_loop(kernels, one[:length]) for one, length in zip(x.numpy(), lengths, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_series_with_more_steps_than_a_byte_can_count():
    kernels = learned(1, 600, kernels=168, kernel_inputs=["standardised"])
    x = series(2, 600)
    np.testing.assert_allclose(kernels(x), [by_loop(kernels, one) for one in x.numpy()], atol=1e-6)
    ones = learned(1, 600, kernels=84, kernel_inputs=["values"])
    ones.biases.fill_(-1e9)
    assert (ones(x) == 1).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_series_has_the_same_bits_in_any_block(channels, monkeypatch):
    kernels, x = learned(channels), series(37, 33, channels)
    lengths = np.random.default_rng(0).integers(1, 34, 37)
    whole, own = kernels(x), kernels(x, lengths)
    monkeypatch.setattr(kernels_module, "BLOCK_VALUES", 40)
    assert torch.equal(kernels(x), whole)
    assert torch.equal(kernels(x, lengths), own)
    assert torch.equal(kernels(x[3:4]), whole[3:4])
    assert kernels(x[:0]).shape == (0, whole.shape[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_functions_of_torch_and_numpy_return_the_same_bits(channels, monkeypatch):
    kernels, x = learned(channels), series(9, 33, channels)
    lengths = [33, 5, 17, 33, 9, 1, 26, 30, 30]
    expected = kernels(x, lengths)
    for module in (kernels_module, kernel_outputs):
        monkeypatch.setattr(module, "native", lambda values: values)
    assert torch.equal(kernels(x, lengths), expected)


def test_constant_series_become_zeros():
    kernels = learned(kernels=84, kernel_inputs=["standardised"])
    kernels.biases.fill_(0.0)
    assert not kernels(torch.full((2, 33, 1), 0.1)).any()
    assert kernels(series(2, 33)).any()


def test_learned_biases_are_quantiles_of_outputs_of_one_series():
    kernels = RandomKernels(section(kernels=84 * 3, kernel_inputs=["values"]), 1, seed=0)
    x = series(1, 20)
    learn(kernels, x, [17], seed=1)
    golden = (5**0.5 - 1) / 2
    number = 0
    for dilation in sorted(set(kernels.dilations.tolist())):
        rows = [row for row in range(3) if int(kernels.dilations[row]) == dilation]
        for k, triple in enumerate(TRIPLES):
            values = output(x[0, :17].numpy(), triple, dilation, [0])
            for row in rows:
                number += 1
                expected = np.quantile(values, number * golden % 1)
                assert float(kernels.biases[row, k]) == pytest.approx(expected, abs=1e-4)


def test_shares_and_dilations():
    assert RandomKernels(section(kernels=2520), 1, 0).bias_counts == [16, 7, 7]
    assert RandomKernels(section(kernels=2520, kernel_inputs=["values", "differences"]), 1, 0).bias_counts == [20, 10]
    assert RandomKernels(section(kernels=1000, kernel_inputs=["values"]), 1, 0).features == 84 * 12
    assert dilations_for(9, 4).tolist() == [1, 1, 1, 1]
    assert dilations_for(5, 1).tolist() == [1]
    assert dilations_for(65, 4).tolist() == [1, 2, 4, 8]
    long = dilations_for(8001, 100)
    assert (long[0], long[-1], len(set(long.tolist()))) == (1, 1000, 28)
    assert (np.diff(long) >= 0).all()


def test_values_that_are_not_finite_are_refused():
    x = series(3, 20)
    x[1, 4] = float("inf")
    with pytest.raises(InputError, match="not finite"):
        learn(RandomKernels(section(), 1, 0), x, None, 0)
    source = make_source(config_of(reservoir=ReservoirSection(kind="none"), extractor=section()), (20, 1), CPU)
    with pytest.raises(CandidateError, match="row 1"):
        source.drive(x)


def test_features_follow_the_states_of_the_reservoir():
    settings = ReservoirSection(nodes=20, reduction="mean_std", kernel="dense-bf16")
    source = make_source(config_of(extractor=section(), reservoir=settings), (33, 3), CPU)
    without = settings.model_copy(update={"kind": "none"})
    alone = make_source(config_of(extractor=section(), reservoir=without), (33, 3), CPU)
    assert isinstance(source, KernelSource)
    assert isinstance(alone, KernelSource)
    for one in (source, alone):
        one.learned.load_state_dict(learned(3).state_dict())
    x, lengths = series(6, 33, 3), [33, 12, 20, 33, 9, 8]
    states = make_reservoir(settings, (33, 3)).drive(x, lengths)
    assert source.width == 40 + 84 * 8
    assert alone.width == 84 * 8
    features = source.learned(x, lengths)
    out = torch.empty(6, source.width)
    assert source.drive(x.numpy(), lengths, out=out) is out
    assert torch.equal(out, torch.cat([states.float(), features], 1))
    assert torch.equal(alone.drive(x.numpy(), lengths), features)


def test_samples_of_few_steps_are_refused():
    with pytest.raises(InputError, match=r"at least 9 steps, but samples of shape \(8, 2\) have 8"):
        make_source(config_of(reservoir=ReservoirSection(), extractor=section()), (8, 2), CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["extractor.kernels=300"], r"needs to be 336 or more for 3 inputs"),
        (["extractor.kernel_inputs=['values','values']"], "needs each input once"),
        (["readout.kind=lstm", "reservoir.reduction=all"], "needs readout.kind = 'network', 'ridge' or 'elm'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        load_config("series", ["extractor.kind=kernels", *changes])


SMALL = [
    "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "search.generations=0", "training.threads=1",
    "run.progress=false", "extractor.kind=kernels", "extractor.kernels=336", "run.seed=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """Two classes of waves of unequal length with two features per step; one class is rare."""
    folder, random = tmp_path_factory.mktemp("waves"), np.random.default_rng(0)
    header = "@problemName waves\n@univariate false\n@equalLength false\n@classLabel true slow fast\n@data\n"
    for part, count in (("TRAIN", 60), ("TEST", 30)):
        lines = []
        for number in range(count):
            steps = np.arange(int(random.integers(12, 31)))
            speed, label = (0.9, "slow") if number % 3 else (1.4, "fast")
            values = [
                np.sin(steps * speed + random.uniform(0, 6)) + random.normal(0, 0.3, len(steps)),
                random.normal(size=len(steps)),
            ]
            lines.append(":".join([*(",".join(f"{value:.4f}" for value in one) for one in values), label]))
        (folder / f"w_{part}.ts").write_text(header + "\n".join(lines) + "\n")
    return folder


def configured(waves, *changes: str):
    return load_config("series", [*SMALL, "data.source=ts", f"data.path={waves}", *changes])


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["reservoir.kind=none"],
        ["readout.kind=network", "training.epochs=15", "training.batch=16", "readout.warm_start=true"],
    ],
    ids=["ridge", "alone", "network"],
)
def test_whole_runs_predict_as_they_evaluate(changes, waves, tmp_path):
    results = run_stages(["prepare", "train", "evaluate"], configured(waves, *changes), tmp_path)
    assert results["evaluate"]["accuracy"] > 0.8
    counts = predict(tmp_path / "train/model.pt", waves / "w_TEST.ts", tmp_path / "y.csv")
    assert list(counts.values()) == np.array(results["evaluate"]["confusion"]).sum(0).tolist()
    model = torch.load(tmp_path / "train/model.pt", weights_only=True)
    assert set(model["learned"]) == {"biases", "dilations"}
    # Series may be longer than those of the training.
    longer = (waves / "w_TEST.ts").read_text().splitlines()[-1].split(":")
    line = ":".join([*(",".join([values] * 3) for values in longer[:2]), longer[2]])
    header = (waves / "w_TEST.ts").read_text().partition("@data")[0]
    (tmp_path / "longer.ts").write_text(f"{header}@data\n{line}\n")
    assert sum(predict(tmp_path / "train/model.pt", tmp_path / "longer.ts", tmp_path / "z.csv").values()) == 1


def test_biases_come_from_original_rows_and_are_loaded_by_a_resumed_run(waves, tmp_path, caplog):
    config = configured(waves, "data.balance=smote")
    run_stages(["prepare"], config, tmp_path)
    shards, run = ShardReader(tmp_path / "shards"), RunDirectory(tmp_path)
    rows = shards.read("train", 0, shards.rows("train"))
    assert rows.synthetic.any()
    originals = {row.tobytes() for row in rows.x[~rows.synthetic]}
    for count in (16, 1000):
        found, lengths = sampled_originals(shards, count, 1)
        assert {row.tobytes() for row in found} <= originals
        assert len(found) == len(lengths) == min(count, len(originals))

    def found_biases() -> dict:
        source = make_source(config, shards.sample_shape, CPU)
        with caplog.at_level("INFO", logger="rcdp_hpc"):
            return learn_extractor(config, SingleProcess(), run, shards, source)

    config.reservoir.kernel = "dense-fp32"
    first = found_biases()
    assert first["biases"].any()
    assert f"features (values, differences, standardised) learned from {len(originals)} training series" in caplog.text
    caplog.clear()
    second = found_biases()
    assert "learned" not in caplog.text
    os.truncate(run.train / "kernels.pt", 300)
    third = found_biases()
    assert "Learning the biases of the kernels again" in caplog.text
    for again in (second, third):
        assert all(torch.equal(again[name], value) for name, value in first.items())


@pytest.mark.mpi
def test_two_ranks_return_the_same_bits_as_one(waves, tmp_path):
    models = []
    for ranks in (1, 2):
        settings = flags(*SMALL, "data.source=ts", f"data.path={waves}")
        command = rcdp("run", "series", "--out", str(tmp_path / str(ranks)), *settings)
        done = run_ranks(ranks, command, timeout=120)
        assert done.returncode == 0, done.stdout
        models.append(torch.load(tmp_path / f"{ranks}/train/model.pt", weights_only=True))
    for part in ("learned", "weights"):
        assert all(torch.equal(models[1][part][name], value) for name, value in models[0][part].items())
    reports = [json.loads((tmp_path / f"{ranks}/report/summary.json").read_text())["test"] for ranks in (1, 2)]
    assert reports[0]["confusion"] == reports[1]["confusion"]


def test_a_search_reports_that_it_evaluates_only_states(waves, tmp_path, caplog):
    config = configured(waves, "search.generations=1", "search.population=2", "search.threads=1")
    with caplog.at_level("INFO", logger="rcdp_hpc"):
        run_stages(["prepare", "search"], config, tmp_path)
    assert caplog.text.count("evaluates the states of the reservoir only") == 1
