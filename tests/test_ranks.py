"""The whole package on real ranks: the same results for any number of ranks, and what ends all of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import BIN, finish, mpirun, mpirun_command, rcdp, run_ranks, start_ranks, wait_until
from whole_runs import curve, flags, lines

from rcdp_hpc.config import STAGES, load_config
from rcdp_hpc.pipeline.stages import run_stages

pytestmark = pytest.mark.mpi

SMALL = [
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.population=6", "search.generations=3",
    "search.train_rows=300", "search.validation_rows=100", "training.epochs=4", "readout.hidden=16",
    "readout.outputs=16", "readout.dropout=0.2", "training.threads=1",
]  # fmt: skip


def settings(*extra: str) -> list[str]:
    return flags(*SMALL, *extra)


def run(ranks: int, out: Path, *extra: str, stage: str = "run", timeout: float = 180) -> str:
    done = run_ranks(ranks, rcdp(stage, "digits", "--out", str(out), *settings(*extra)), timeout=timeout)
    assert done.returncode == 0, done.stdout
    return done.stdout


def history(out: Path) -> list[dict]:
    """The history of the search without values that may differ between runs."""
    return [
        {key: value for key, value in line.items() if key != "timing"} for line in lines(out / "search/history.jsonl")
    ]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "train/last.pt", weights_only=True)["trainer"]["network"]


def shard_digests(out: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((out / "shards").glob("*.h5"))}


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A run of one rank with the global batch of the other runs."""
    out = tmp_path_factory.mktemp("alone")
    run(1, out, "training.batch=48")
    return out


# Trainings with each of these numbers on both engines: tests/parallel/test_same_training.py.
@pytest.mark.parametrize(("ranks", "engine"), [(2, "torch"), (3, "auto"), (4, "torch")])
def test_any_number_of_ranks_gives_the_results_of_one(ranks, engine, alone, tmp_path):
    # Without groups, which a fast machine may choose and of which the history names only the first rank.
    changes = (f"training.batch={48 // ranks}", "search.group_ranks=1", f"parallel.engine={engine}")
    output = run(ranks, tmp_path, *changes)
    assert output.count("test accuracy") == 1
    assert shard_digests(tmp_path) == shard_digests(alone)
    assert history(tmp_path) == history(alone)
    np.testing.assert_allclose(curve(tmp_path), curve(alone), rtol=1e-5, atol=1e-5)
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(tmp_path)[name], value, rtol=1e-3, atol=1e-4)
    one, many = (json.loads((out / "report/summary.json").read_text()) for out in (alone, tmp_path))
    assert many["test"]["samples"] == one["test"]["samples"]
    timings = [line["timing"]["rank"] for line in lines(tmp_path / "search/history.jsonl")]
    assert set(timings) - {None} == set(range(ranks))
    assert set(many["ranks"].values()) == {ranks}


def test_an_extreme_learning_machine_is_searched_and_solved_to_the_same_bits_by_three_ranks(tmp_path):
    changes = (
        "readout.kind=elm", "readout.layers=2", "reservoir.kind=none", "search.evaluation=train",
        "search.population=3", "search.generations=2", "search.group_ranks=1", "readout.ridge_selection=validation",
    )  # fmt: skip
    space = (
        "search.space.hidden={low = 8, high = 40}", "search.space.elm_penalty={low = 0.1, high = 1e3, log = true}"
    )  # fmt: skip
    models = []
    for ranks in (1, 3):
        run(ranks, tmp_path / str(ranks), *changes, *space)
        models.append(torch.load(tmp_path / str(ranks) / "train/model.pt", weights_only=True)["weights"])
    assert history(tmp_path / "3") == history(tmp_path / "1")
    assert {name: value.numpy().tobytes() for name, value in models[1].items()} == {
        name: value.numpy().tobytes() for name, value in models[0].items()
    }


def test_the_digits_profile_reaches_the_accuracy_of_the_readme(tmp_path):
    done = run_ranks(2, rcdp("run", "digits", "--out", str(tmp_path)), timeout=280)
    assert done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "report/summary.json").read_text())["test"]["accuracy"] >= 0.97


def test_separate_stages_without_a_launcher_give_the_results_of_one_command(alone, tmp_path):
    for stage in STAGES:
        run_stages([stage], load_config("digits", [*SMALL, "training.batch=48"]), tmp_path)
    assert history(tmp_path) == history(alone)
    np.testing.assert_allclose(curve(tmp_path), curve(alone), rtol=1e-6, atol=1e-7)


def kill_ranks(out: Path) -> None:
    """Kill the ranks of a killed mpirun, which are in separate process groups."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and str(out).encode() in _command_line(process):
            os.kill(int(process.name), signal.SIGKILL)


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_search_killed_in_the_middle_ends_equal(alone, tmp_path):
    extra = ("training.batch=48",)
    run(2, tmp_path, *extra, stage="prepare")
    process = start_ranks(2, rcdp("search", "--out", str(tmp_path)))
    # The checkpoint of a generation is written while the next generation is evaluated.
    wait_until((tmp_path / "search/checkpoint.npz").exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    kill_ranks(tmp_path)
    finish(process, 30)
    assert not (tmp_path / "search/best.toml").exists()
    done = run_ranks(3, rcdp("search", "--out", str(tmp_path)))
    assert done.returncode == 0, done.stdout
    assert "resumed in generation" in done.stdout
    assert history(tmp_path) == history(alone)


@pytest.mark.horovodrun
@pytest.mark.parametrize("controller", ["--gloo", "--mpi"])
def test_horovodrun_trains_on_both_controllers(controller, tmp_path):
    command = [str(BIN / "horovodrun"), controller, "-np", "2"]
    if controller == "--mpi":
        # Horovod's default option is that of Open MPI 4.
        command += ["--binding-args=--bind-to none --map-by slot:OVERSUBSCRIBE"]
    done = run_ranks(0, [*command, *rcdp("run", "digits", "--out", str(tmp_path), *settings("search.generations=0"))])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("test accuracy") == 1
    assert len(lines(tmp_path / "train/metrics.jsonl")) == 4


@pytest.mark.horovodrun
def test_the_search_under_horovodruns_gloo_names_the_launchers_that_it_needs(tmp_path):
    command = [
        str(BIN / "horovodrun"),
        "--gloo",
        "-np",
        "2",
        *rcdp("run", "digits", "--out", str(tmp_path), *settings()),
    ]
    done = run_ranks(0, command)
    assert done.returncode != 0
    assert done.stdout.count("with mpirun, srun --mpi=pmix, torchrun or horovodrun --mpi") == 1
    assert not (tmp_path / "search/history.jsonl").exists()


def test_a_directory_in_use_is_refused_by_one_message(tmp_path):
    from rcdp_hpc.runtime.lock import RunLock

    with RunLock(tmp_path / "lock"):
        done = run_ranks(2, rcdp("prepare", "digits", "--out", str(tmp_path)))
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("is in use by process") == 1


def test_more_ranks_than_rows_is_refused(tmp_path):
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "tiny.npz", x=generator.random((12, 6)), y=np.arange(12) % 2)
    extra = (
        "data.source=npz", f"data.path={tmp_path / 'tiny.npz'}", "data.class_keep_fractions=[]",
        "data.validation_fraction=0.3",
        "data.test_fraction=0.4", "reservoir.states=1", "reservoir.sequence=rows", "search.generations=0",
    )  # fmt: skip
    done = run_ranks(7, rcdp("run", "digits", "--out", str(tmp_path / "run"), *settings(*extra)))
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("start at most") == 1


def test_an_unexpected_failure_of_one_rank_ends_all_and_names_it(tmp_path):
    code = (
        "import sys, rcdp_hpc.cli as cli, rcdp_hpc.pipeline.stages as pipeline\n"
        "def work(context, options):\n"
        "    if context.comm.rank == 1: raise ValueError('boom')\n"
        "    context.comm.barrier()\n"
        "pipeline._WORK['prepare'] = work\n"
        f"sys.exit(cli.main(['prepare', 'digits', '--out', {str(tmp_path)!r}]))\n"
    )
    done = run_ranks(3, [str(BIN / "python"), "-c", code], timeout=60)
    assert done.returncode not in (0, 75)
    assert done.stdout.count("rank 1 of 3 failed") == 1
    assert done.stdout.count("ValueError: boom") == 1


def test_ranks_that_disagree_with_horovod_are_refused(tmp_path):
    code = (
        "from rcdp_hpc.runtime.comm.connect import connect\n"
        "from rcdp_hpc.parallel.horovod import HorovodEngine\n"
        "from rcdp_hpc.runtime.comm.single import SingleProcess\n"
        "from rcdp_hpc.errors import InputError\n"
        "comm = connect()\n"
        "try:\n    HorovodEngine(SingleProcess(), 60)\n"
        "except InputError as error:\n    print(error)\n"
    )
    done = run_ranks(2, [str(BIN / "python"), "-c", code], timeout=60)
    assert "rank 0 of 1" in done.stdout
    assert "is rank 1 of 2 to Horovod" in done.stdout


def test_variables_of_an_earlier_horovodrun_are_refused_under_mpirun(tmp_path):
    left = {"HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1", "HOROVOD_RANK": "0", "HOROVOD_SIZE": "3"}
    done = run_ranks(2, rcdp("prepare", "digits", "--out", str(tmp_path / "run")), timeout=60, env=left)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("unset the HOROVOD_* variables") == 1
    assert not (tmp_path / "run").exists()


def test_a_controller_for_another_launcher_is_ignored(tmp_path):
    command = rcdp("run", "digits", "--out", str(tmp_path), *settings("search.generations=0"))
    done = run_ranks(2, command, env={"HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo"})
    assert done.returncode == 0, done.stdout


def test_gradients_in_order_of_arrival_give_the_same_up_to_rounding(alone, tmp_path):
    """Horovod gets the settings of fusion and cycle, and uses them."""
    free = (
        "parallel.deterministic=false",
        "parallel.horovod.fusion_mib=3",
        "parallel.horovod.cycle_ms=8",
        "training.batch=16",
    )
    command = ["run", "digits", "--out", str(tmp_path), *settings(*free)]
    code = (
        "import os, sys, horovod.torch as hvd, rcdp_hpc.cli as cli\n"
        "init = hvd.init\n"
        "def init_and_print(*arguments, **options):\n"
        "    names = ('HOROVOD_FUSION_THRESHOLD', 'HOROVOD_CYCLE_TIME')\n"
        "    if not hvd.is_initialized(): print('settings', *(os.environ.get(name) for name in names), flush=True)\n"
        "    return init(*arguments, **options)\n"
        "hvd.init = init_and_print\n"
        f"sys.exit(cli.main({command!r}))\n"
    )
    timeline = {"HOROVOD_TIMELINE": str(tmp_path / "timeline.json"), "HOROVOD_TIMELINE_MARK_CYCLES": "1"}
    done = run_ranks(3, [str(BIN / "python"), "-c", code], timeout=280, env=timeline)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count(f"settings {3 * 2**20} 8.0") == 3, done.stdout
    written = (tmp_path / "timeline.json").read_text()
    cycles = [int(micro) for micro in re.findall(r'"CYCLE_START".*?"ts": ?(\d+)', written)]
    assert np.median(np.diff(cycles)) >= 7500
    np.testing.assert_allclose(curve(tmp_path), curve(alone), rtol=1e-5, atol=1e-5)


def test_mpirun_belongs_to_this_environment():
    assert Path(mpirun()).exists()


def test_a_folder_of_a_killed_mpirun_of_the_same_number_does_no_harm(tmp_path):
    left_behind = 'mkdir "$TMPDIR/ompi.$$" && touch "$TMPDIR/ompi.$$/pmix.$(hostname -s).tool" && exec "$@"'
    command = ["bash", "-c", left_behind, "bash", *mpirun_command(2, ["true"])]
    done = run_ranks(0, command, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 0, done.stdout
