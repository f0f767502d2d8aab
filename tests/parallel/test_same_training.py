"""Trainings on one to four ranks and on both engines: the same losses, and for two ranks the same bits.

All trainings of a number of ranks run one after the other in one start.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import BIN
from trainings import ENGINES_HERE, Training, ended, messages, on_both_engines, train_together
from whole_runs import curve, lines

from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.training.replicas import mean_weights

pytestmark = pytest.mark.mpi

SMALL = (
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=3", "run.seed=3",
    "readout.hidden=16", "readout.outputs=16", "readout.dropout=0.2", "training.threads=1", "training.baseline=false",
    "schedule.kind=constant", "run.progress=false",
)  # fmt: skip
# Settings, and the numbers of ranks that return the results of one. The batch over all ranks is 48 rows if not given.
LIKE_ONE = {
    "plain": ((), (2, 3, 4)),
    # 1230 rows with a smaller last batch, class weights and clipped gradients.
    "optimiser, schedule and loss": ((
        "optimizer.kind=lamb", "schedule.kind=one_cycle", "schedule.warmup_steps=20", "optimizer.learning_rate=0.01",
        "optimizer.clip_norm=0.5", "loss.kind=focal", "loss.label_smoothing=0.1", "loss.class_weights=balanced",
        "data.balance=none", "loss.l1=1e-5", "loss.l2=1e-4",
    ), (2, 3)),
    # 31 batches per epoch, five per step: the last step has fewer.
    "accumulated gradients": (("training.accumulate=5",), (2, 3)),
    # The last batch of an epoch has rows for two of four ranks.
    "fewer rows than ranks": (("training.batch=76",), (2, 4)),
    "exchanged rows": (("partition.reshuffle_every=1",), (2, 3)),
    # Weights are removed until the middle of the training, and small ones by the penalty.
    "pruned": (("pruning.keep=0.3", "pruning.epochs=1", "pruning.every=4", "loss.l1=1e-3"), (2, 3)),
    "gated": (("pruning.method=l0", "pruning.epochs=1"), (2,)),
    "in order of arrival": (("parallel.deterministic=false",), (3,)),
}  # fmt: skip
# Ranks of different speeds, and the partitions of each.
UNEQUAL = {2: ([1, 2], [4, 8]), 3: ([3, 1, 2], [6, 2, 4])}
CASES = [(case, ranks) for case, (_, numbers) in LIKE_ONE.items() for ranks in numbers]
# Only two ranks, whose results are not those of one.
LOCAL_SGD = (*SMALL, "parallel.local_steps=4", "optimizer.learning_rate=0.01", "optimizer.ema=0.5")
TWO_RANKS = {
    "local SGD": LOCAL_SGD,
    "local SGD again": LOCAL_SGD,
    "averaged": (*SMALL, "parallel.replicas=averaged"),
    "ensemble": (*SMALL, "parallel.replicas=ensemble"),
    "fp16": (*SMALL, "parallel.compression=fp16"),
}


# Steps in two pieces around the sum of the gradients; rows move to other memory after each epoch.
PIECES = (
    *SMALL,
    "parallel.batch_statistics=rank",
    "partition.reshuffle_every=1",
    "training.epochs=2",
    "training.batch=48",
)


def batched(settings: tuple[str, ...], ranks: int) -> tuple[str, ...]:
    """Return the settings with the batch of a rank instead of that over all ranks."""
    (total,) = [int(value.partition("=")[2]) for value in settings if value.startswith("training.batch=")] or [48]
    return (*settings, f"training.batch={total // ranks}")


def plan(folder: Path, ranks: int) -> list[Training]:
    """Return the trainings of a number of ranks on each engine."""
    trainings = []
    for engine in ENGINES_HERE if ranks else ("",):
        at = folder / str(ranks) / engine

        def add(name: str, settings: tuple[str, ...], engine: str = engine, at: Path = at, **options) -> None:
            source = folder / ("unbalanced" if "data.balance=none" in settings else "prepared")
            trainings.append(Training(str(at / name), settings, engine, str(source), **options))

        for case, (settings, numbers) in LIKE_ONE.items():
            if ranks in (0, *numbers):
                add(case, batched((*SMALL, *settings), max(ranks, 1)))
        if ranks == 3:
            # Stopped by the number of epochs, which may change.
            settings = batched((*SMALL, *LIKE_ONE["exchanged rows"][0]), ranks)
            add("exchanged rows, resumed", (*settings, "training.epochs=2"))
            add("exchanged rows, resumed", settings)
        if engine == "torch":
            add("plain, by Gloo", batched(SMALL, ranks), fault=["gloo"])
        if ranks in UNEQUAL:
            speeds = ("partition.load_balance=rank_speeds", f"partition.rank_speeds={UNEQUAL[ranks][0]}")
            add("unequal", batched((*SMALL, *speeds), ranks))
        if ranks == 2:
            _add_two_ranks(add)
    return trainings


def _add_two_ranks(add: Callable[..., None]) -> None:
    for name, settings in TWO_RANKS.items():
        add(name, settings if name.startswith("local") else batched(settings, 2))
    # Only rank 1 receives a signal, within the second epoch.
    add("local SGD, stopped", LOCAL_SGD, fault=("stopped", 1, 1, 8))
    add("local SGD, resumed", LOCAL_SGD, fault=("stopped", 1, 1, 8))
    add("local SGD, resumed", LOCAL_SGD)
    ensemble = batched(TWO_RANKS["ensemble"], 2)
    add("ensemble, resumed", (*ensemble, "training.epochs=2"))
    add("ensemble, resumed", ensemble)
    for case in ("pruned", "gated"):
        settings = batched((*SMALL, *LIKE_ONE[case][0]), 2)
        add(f"{case}, resumed", settings, fault=("stopped", 1, 0, 13))
        add(f"{case}, resumed", settings)
    add("recorded", PIECES, fault=("recorded", 2))
    add("not recorded", PIECES, fault=("recorded", 1000))
    measured = batched((*SMALL, "partition.load_balance=measured"), 2)
    add("measured", (*measured, "training.epochs=2"), fault=("rates", 100.0, 300.0))
    # The second job measures for real, and must not use it.
    add("measured", measured)
    add("measured for real", measured)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[int, str], Path]:
    """Return the folder of the trainings of a number of ranks on an engine; each number starts once, when needed."""
    folder = tmp_path_factory.mktemp("trained")
    prepared = [Training(str(folder / "prepared"), SMALL, stages=["prepare"])]
    prepared += [Training(str(folder / "unbalanced"), (*SMALL, "data.balance=none"), stages=["prepare"])]
    train_together(0, prepared)

    @cache
    def start(ranks: int) -> Path:
        train_together(ranks, plan(folder, ranks))
        return folder / str(ranks)

    return lambda ranks, engine="": start(ranks) / engine


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(ended(out) / "train/last.pt", weights_only=True)["trainer"]["network"]


def assert_same_bits(out: Path, other: Path) -> None:
    ours, theirs = weights(out), weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    np.testing.assert_array_equal(curve(out), curve(other))


def assert_like_one(out: Path, one: Path) -> None:
    found, expected = np.array(curve(ended(out))), np.array(curve(ended(one)))
    # Rounding may change the class of one of the 1230 training rows.
    np.testing.assert_allclose(found[:, 1], expected[:, 1], atol=1 / 1000)
    np.testing.assert_allclose(np.delete(found, 1, 1), np.delete(expected, 1, 1), rtol=1e-5, atol=1e-5)


@on_both_engines
@pytest.mark.parametrize(("case", "ranks"), CASES)
def test_any_number_of_ranks_gives_the_results_of_one(case, ranks, engine, trained):
    out, one = trained(ranks, engine) / case, trained(0) / case
    assert_like_one(out, one)
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(out)[name], value, rtol=1e-3, atol=1e-4)
    norms = [[line["gradient_norm_max"] for line in lines(path / "train/metrics.jsonl")] for path in (one, out)]
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-3)


@pytest.mark.parametrize("case", [*(case for case, ranks in CASES if ranks == 2), "unequal", *TWO_RANKS])
@pytest.mark.skipif(len(ENGINES_HERE) < 2, reason="Horovod is not installed")
def test_two_ranks_have_the_same_bits_on_both_engines(case, trained):
    runs = [trained(2, engine) / case for engine in ENGINES_HERE]
    assert_same_bits(*runs)
    sent = [[line["bytes_sent"] for line in lines(out / "train/metrics.jsonl")] for out in runs]
    assert sent[0] == sent[1]


@pytest.mark.parametrize(("case", "ranks"), [(case, ranks) for case, ranks in CASES if ranks > 2])
@pytest.mark.skipif(len(ENGINES_HERE) < 2, reason="Horovod is not installed")
def test_more_ranks_have_the_same_losses_on_both_engines(case, ranks, trained):
    found, expected = (curve(ended(trained(ranks, engine) / case)) for engine in ("torch", "horovod"))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_gloo_gives_the_results_of_mpi(ranks, trained):
    """The torch engine sums small gradients by MPI, and others by Gloo."""
    out = trained(ranks, "torch")
    if ranks == 2:
        assert_same_bits(out / "plain, by Gloo", out / "plain")
    np.testing.assert_allclose(curve(ended(out / "plain, by Gloo")), curve(out / "plain"), rtol=1e-6, atol=1e-6)


BY_TORCHRUN = ("plain", "accumulated gradients", "exchanged rows", "unequal", "local SGD", "ensemble", "fp16")


@pytest.fixture(scope="module")
def by_torchrun(trained) -> Path:
    """Train on two ranks of torchrun, which has no MPI."""
    folder = trained(2, "torch").parents[1]
    trainings = [one for one in plan(folder, 2) if one.engine == "torch" and Path(one.out).name in BY_TORCHRUN]
    out = folder / "torchrun"
    launcher = [str(BIN / "torchrun"), "--nproc-per-node", "2"]
    train_together(2, [replace(one, out=str(out / Path(one.out).name)) for one in trainings], launcher=launcher)
    return out


@pytest.mark.parametrize("case", BY_TORCHRUN)
def test_torchrun_gives_the_bits_of_mpirun(case, by_torchrun, trained):
    assert_same_bits(by_torchrun / case, trained(2, "torch") / case)


@on_both_engines
def test_the_engine_is_logged(engine, trained):
    name = {"horovod": "Horovod", "torch": "torch.distributed"}[engine]
    (line,) = [line for line in messages(trained(3, engine) / "plain").splitlines() if "ranks train with" in line]
    assert f"3 ranks train with {name}" in line
    assert f"parallel.engine = {engine}" in line


@on_both_engines
@pytest.mark.parametrize("ranks", UNEQUAL)
def test_unequal_shares_give_the_same_training(ranks, engine, trained):
    out, (_, partitions) = trained(ranks, engine) / "unequal", UNEQUAL[ranks]
    assert_like_one(out, trained(0) / "plain")
    assert result(out)["partitions"] == partitions
    counts = np.array(lines(out / "train/class_counts.jsonl")[0]["counts"])
    rows = counts.sum(axis=1)
    np.testing.assert_allclose(rows / rows.sum(), np.array(partitions) / 12, atol=0.01)
    # Every share has the class proportions of the whole.
    assert (np.abs(counts - counts.sum(axis=0) * (rows / rows.sum())[:, None]) < 2).all()


@on_both_engines
def test_measured_speeds_are_recorded_and_used_on_resume(engine, trained):
    out = trained(2, engine) / "measured"
    assert_like_one(out, trained(0) / "plain")
    assert messages(out).count("speeds of the ranks: [1.0, 3.0]; partitions: [3, 9]") == 2
    assert (result(out)["partitions"], result(out)["rank_speeds"]) == ([3, 9], [1.0, 3.0])


@on_both_engines
def test_speeds_of_real_ranks_are_measured(engine, trained):
    out = trained(2, engine) / "measured for real"
    assert_like_one(out, trained(0) / "plain")
    assert "about equally fast" in messages(out) or "speeds of the ranks" in messages(out)


def result(out: Path) -> dict:
    return json.loads((out / "state/train.json").read_text())["result"]


@on_both_engines
def test_ranks_that_exchange_rows_and_resume_equal_one_that_does_neither(engine, trained):
    out = trained(3, engine) / "exchanged rows, resumed"
    assert "resumed at epoch 3, step 0" in messages(ended(out))
    assert_like_one(out, trained(0) / "exchanged rows")


@on_both_engines
def test_local_sgd_repeats_to_the_bit_and_sends_less(engine, trained):
    out = trained(2, engine)
    assert_same_bits(out / "local SGD again", out / "local SGD")
    assert curve(out / "local SGD")[-1, 3] > 0.5
    sent = [sum(lines(out / case / "train/metrics.jsonl")[-1]["bytes_sent"]) for case in ("local SGD", "plain")]
    assert 0 < sent[0] < sent[1]


@on_both_engines
@pytest.mark.parametrize("case", ["pruned", "gated"])
def test_pruning_resumes_to_the_same_bits(case, engine, trained):
    out = trained(2, engine)
    assert "resumed at epoch 1, step 13" in messages(out / f"{case}, resumed")
    assert_same_bits(out / f"{case}, resumed", out / case)
    matrices = [values for values in weights(out / case).values() if values.ndim > 1]
    zeros = sum(int((values == 0).sum()) for values in matrices) / sum(values.numel() for values in matrices)
    assert zeros >= (0.69 if case == "pruned" else 0.0)


@on_both_engines
def test_local_sgd_resumes_to_the_same_bits(engine, trained):
    out = trained(2, engine)
    stopped = json.loads((out / "local SGD, stopped/state/train.json").read_text())
    assert stopped["status"] == "stopped"
    assert "resumed at epoch 2, step 8" in messages(out / "local SGD, resumed")
    assert_same_bits(out / "local SGD, resumed", out / "local SGD")


@on_both_engines
def test_compressed_gradients_change_results_little(engine, trained):
    halved, full = (curve(ended(trained(2, engine) / case)) for case in ("fp16", "plain"))
    np.testing.assert_allclose(halved, full, atol=0.03)
    assert not np.array_equal(halved, full)


@on_both_engines
def test_recorded_steps_of_two_ranks_give_the_bits_of_steps_as_they_are(engine, trained):
    recorded, plain = trained(2, engine) / "recorded", trained(2, engine) / "not recorded"
    assert_same_bits(recorded, plain)
    assert "cannot be recorded" not in messages(recorded)
    assert "in two pieces around the sum of the gradients" in messages(recorded)


def checkpoint(out: Path) -> dict:
    return torch.load(ended(out) / "train/last.pt", weights_only=True)


def model(out: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model after a check that they are of the last epoch, as those of the checkpoint."""
    entries = lines(out / "train/metrics.jsonl")
    assert checkpoint(out)["trainer"]["position"]["best_epoch"] == len(entries) - 1
    return torch.load(out / "train/model.pt", weights_only=True)["weights"]


@on_both_engines
def test_replicas_are_averaged_by_their_rows(engine, trained):
    out = trained(2, engine) / "averaged"
    replicas = [one["network"] for one in checkpoint(out)["trainer"]["replicas"]]
    assert any(not torch.equal(value, replicas[1][name]) for name, value in replicas[0].items())
    counts = lines(out / "train/class_counts.jsonl")[0]["counts"]
    expected = mean_weights([(sum(rows), weights) for rows, weights in zip(counts, replicas, strict=True)])
    for name, value in model(out).items():
        torch.testing.assert_close(value, expected[name])


@on_both_engines
def test_an_ensemble_has_all_replicas_and_resumes_to_the_bit(engine, trained):
    straight, resumed = trained(2, engine) / "ensemble", trained(2, engine) / "ensemble, resumed"
    members = model(straight)
    assert Ensemble.count(members) == 2
    for number, one in enumerate(checkpoint(straight)["trainer"]["replicas"]):
        assert all(torch.equal(value, members[f"members.{number}.{name}"]) for name, value in one["network"].items())
    assert all(torch.equal(value, model(resumed)[name]) for name, value in members.items())
    network = TrainedModel.load(straight / "train/model.pt").network
    assert isinstance(network, Ensemble)
    assert len(network.members) == 2
