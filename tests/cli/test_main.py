"""What a user sees: one message with the expected input and the remedy, the exit code, and no lost results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from launch import environment, python, rcdp, run_ranks

from rcdp_hpc.cli import main
from rcdp_hpc.config.profile_values import report_left_out

FAST = [
    "reservoir.nodes=40", "reservoir.kernel=dense-fp32", "search.population=4", "search.generations=2",
    "search.train_rows=200", "search.validation_rows=80", "training.epochs=3", "readout.hidden=12",
    "readout.outputs=12", "training.threads=1", "checkpoint.every_seconds=0", "optimizer.learning_rate=0.01",
]  # fmt: skip


def flags(*values: str) -> list[str]:
    return [part for value in (*FAST, *values) for part in ("--set", value)]


def call(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return run_ranks(0, rcdp(*map(str, arguments)), timeout=120, env=env)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("rcdp: error:")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    done = call("run", "digits", "--out", out, *flags())
    assert done.returncode == 0, done.stdout
    return out


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def tree(folder: Path) -> dict[str, bytes]:
    """All files except those that each start appends to."""
    kept = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "log.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept if path.parent.name != "state"}


def test_a_run_writes_the_documented_files(finished):
    summary = json.loads((finished / "report/summary.json").read_text())
    assert set(summary["seconds"]) == {"prepare", "search", "train", "evaluate"}
    assert summary["seed"] == 1
    assert summary["versions"]["torch"]
    confusion = np.array(summary["test"]["confusion"])
    assert confusion.sum() == summary["test"]["samples"] == 359
    assert (finished / "report/confusion.png").read_bytes().startswith(b"\x89PNG")
    assert (finished / "report/training.png").exists()
    assert not (finished / "lock").exists()


def test_the_same_command_again_changes_no_result(copy):
    before = tree(copy)
    done = call("run", "digits", "--out", copy, *flags())
    assert done.returncode == 0, done.stdout
    after = tree(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"report/summary.json", "report/index.html"}  # with the times of this evaluation
    assert set(after) == set(before)
    assert "training is finished already" in done.stdout


def test_a_run_directory_is_a_sufficient_configuration(copy):
    done = call("evaluate", "--out", copy)
    assert done.returncode == 0, done.stdout
    assert "test accuracy" in done.stdout


def test_status_of_new_running_and_finished_runs(finished, tmp_path):
    assert "report/index.html" in call("status", finished).stdout
    call("prepare", "digits", "--out", tmp_path / "new", *flags())
    text = call("status", tmp_path / "new").stdout
    assert "prepare   done" in text
    assert f"next: rcdp search --out {tmp_path / 'new'}" in text
    missing = call("status", tmp_path / "none")
    assert missing.returncode == 2
    assert "no such run directory" in missing.stdout


def test_without_a_search_the_hints_do_not_name_it(tmp_path):
    out = tmp_path / "run"
    done = call("prepare", "digits", "--out", out, *flags("search.generations=0"))
    assert f"rcdp train --out {out}" in done.stdout
    text = call("status", out).stdout
    assert f"next: rcdp train --out {out}" in text
    assert "rcdp search" not in done.stdout + text
    assert "  search " not in text


def test_predict_writes_labels_and_probabilities(finished, tmp_path):
    from sklearn.datasets import load_digits

    np.savez(tmp_path / "x.npz", x=load_digits().images[:50])
    for name in ("out.npz", "out.csv"):
        assert call("predict", finished, tmp_path / "x.npz", "--to", tmp_path / name).returncode == 0
    with np.load(tmp_path / "out.npz") as out:
        assert out["calibrated_probability"].shape == (50, 10)
        np.testing.assert_allclose(out["calibrated_probability"].sum(1), 1, atol=1e-5)
        assert (out["label"] == load_digits().target[:50]).mean() > 0.7
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert len(table) == 51
    assert table[0].startswith("sample,label,calibrated_p_0,")


def test_predict_refuses_samples_of_another_shape_and_a_missing_model(finished, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 9, 9)))
    done = call("predict", finished, tmp_path / "x.npz", "--to", tmp_path / "y.csv")
    assert done.returncode == 2
    assert "(9, 9); this model takes (8, 8)" in errors(done)[0]
    done = call("predict", tmp_path, tmp_path / "x.npz", "--to", tmp_path / "y.csv")
    assert done.returncode == 2
    assert "no trained model" in errors(done)[0]


BAD_SETTINGS = {
    "unknown key": (["--set", "search.populaton=3"], "did you mean search.population?"),
    "out of bounds": (["--set", "training.epochs=0"], "training.epochs = 0"),
    "missing file": (["--set", "data.source=mnist", "--set", "data.path=nowhere"], "nowhere"),
    "no path": (["--set", "data.source=npz"], "data.path is empty"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_wrong_settings_are_one_message_and_code_2(case, tmp_path):
    arguments, words = BAD_SETTINGS[case]
    done = call("prepare", "digits", "--out", tmp_path / "run", *arguments)
    assert done.returncode == 2
    assert len(errors(done)) == 1
    assert words in errors(done)[0]
    assert "Traceback" not in done.stdout


@pytest.mark.mpi
@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_wrong_settings_are_one_message_on_three_ranks_too(case, tmp_path):
    arguments, words = BAD_SETTINGS[case]
    done = run_ranks(3, rcdp("prepare", "digits", "--out", str(tmp_path / "run"), *arguments), timeout=60)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("rcdp: error:") == 1
    assert words in done.stdout


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


DAMAGE = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped byte": flip,
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_named_by_verify_and_by_training(damage, copy):
    victim = sorted((copy / "shards").glob("train-*.h5"))[1]
    DAMAGE[damage](victim)
    verified = call("verify", copy)
    assert verified.returncode == 3
    assert victim.name in errors(verified)[0]
    trained = call("train", "--out", copy, "--restart")
    assert trained.returncode == 3
    assert len(errors(trained)) == 1
    assert victim.name in errors(trained)[0]


@pytest.mark.mpi
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_shard_that_one_rank_finds_damaged_stops_all_with_one_message(damage, copy):
    victim = sorted((copy / "shards").glob("train-*.h5"))[-1]
    DAMAGE[damage](victim)
    done = run_ranks(3, rcdp("train", "--out", str(copy), "--restart"), timeout=90)
    assert done.returncode == 3, done.stdout
    assert done.stdout.count("rcdp: error:") == 1
    assert victim.name in done.stdout


def test_verify_accepts_undamaged_shards(finished):
    done = call("verify", finished)
    assert done.returncode == 0
    assert "all checksums" in done.stdout


def test_a_checkpoint_of_other_settings_names_the_keys_and_loses_nothing(copy):
    before = tree(copy)
    done = call("train", "--out", copy, "--set", "training.batch=7", "--set", "training.epochs=9")
    assert done.returncode == 2
    assert "training.batch (32 -> 7)" in errors(done)[0]
    assert "training.epochs" in errors(done)[0].partition("may change")[0]
    assert tree(copy) == before


def test_a_refused_command_leaves_the_run_directory_usable(copy):
    assert call("train", "--out", copy, "--set", "training.batch=7").returncode == 2
    assert call("evaluate", "digits", "--out", copy, "--set", "data.shards=3").returncode == 2
    assert call("train", "--out", copy).returncode == 0


def test_a_model_of_other_shards_is_neither_trained_on_nor_evaluated(copy):
    assert call("prepare", "--out", copy, "--restart", "--set", "run.seed=5").returncode == 0
    for stage in ("train", "evaluate"):
        done = call(stage, "--out", copy)
        assert done.returncode == 2, done.stdout
        assert "run.seed (1 -> 5)" in errors(done)[0] or "other shards" in errors(done)[0]


def test_metrics_are_complete_after_a_kill_and_missing_epochs_are_reported(copy):
    metrics = copy / "train/metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + whole.splitlines()[-1] + '\n{"epoch": 3')  # written after the checkpoint
    assert call("train", "--out", copy, "--set", "training.epochs=4").returncode == 0
    assert metrics.read_text().startswith(whole)
    assert len(metrics.read_text().splitlines()) == 4
    metrics.unlink()
    done = call("train", "--out", copy, "--set", "training.epochs=5")
    assert done.returncode == 0, done.stdout
    assert "0 of the 4 epochs until then are left" in done.stdout
    assert len(metrics.read_text().splitlines()) == 1
    shutil.rmtree(copy / "train")
    metrics.parent.mkdir()
    metrics.write_text('{"left by": "a job that was killed before its first checkpoint"}\n')
    assert call("train", "--out", copy).returncode == 0
    assert "left by" not in metrics.read_text()


def test_status_reports_a_stale_lock(copy):
    code = (
        "import os; from pathlib import Path; from rcdp_hpc.runtime.lock import RunLock\n"
        f"RunLock(Path({str(copy / 'lock')!r})).__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
    text = call("status", copy).stdout
    assert "no longer exists" in text
    assert "wait" not in text


def test_a_log_that_is_a_device_is_refused(copy):
    (copy / "log.jsonl").unlink()
    (copy / "log.jsonl").symlink_to("/dev/full")
    done = call("evaluate", "--out", copy)
    assert done.returncode == 2, done.stdout
    assert "log.jsonl: a device; a regular file is needed" in done.stdout
    assert "Traceback" not in done.stdout


def test_from_python_two_runs_keep_their_logs_apart(tmp_path):
    code = (
        "import rcdp_hpc\n"
        f"for out in ({str(tmp_path / 'a')!r}, {str(tmp_path / 'b')!r}):\n"
        "    rcdp_hpc.prepare(rcdp_hpc.load_config('digits'), out)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), timeout=120)
    first, second = ((tmp_path / name / "log.jsonl").read_text() for name in "ab")
    assert len(first.splitlines()) == len(second.splitlines()) > 3
    assert str(tmp_path / "b") not in first


def test_epochs_may_be_raised_on_resume(copy):
    done = call("train", "--out", copy, "--set", "training.epochs=5", "--set", "schedule.kind=cosine")
    assert done.returncode == 0, done.stdout
    assert "resumed at epoch 4" in done.stdout
    assert len((copy / "train/metrics.jsonl").read_text().splitlines()) == 5


def test_a_restart_puts_earlier_results_aside(copy):
    done = call("train", "--out", copy, "--set", "training.batch=7", "--restart")
    assert done.returncode == 0, done.stdout
    assert len(list(copy.glob("train.before-*/train/last.pt"))) == 1


def test_a_failed_restart_of_the_preparation_leaves_all_as_it_was(copy):
    before = {path.name: path.read_bytes() for path in (copy / "shards").iterdir()}
    code = (
        "import os, sys, errno, rcdp_hpc.cli as cli, rcdp_hpc.data.shards.writer as shards\n"
        "reserve, calls = shards._reserve, []\n"
        "def full(path, size):\n"
        "    calls.append(path)\n"
        "    if len(calls) > 8: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))\n"
        "    reserve(path, size)\n"
        "shards._reserve = full\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    done = run_ranks(0, [*python(code), "run", "--out", str(copy), "--restart", "--set", "run.seed=5"])
    assert done.returncode == 1, done.stdout
    assert "no space left to write" in done.stdout
    assert {path.name: path.read_bytes() for path in (copy / "shards").iterdir()} == before
    assert not list(copy.glob("*.before-*"))
    assert (copy / "train/last.pt").exists()
    # The run continues as if the failed restart had not been tried.
    assert call("train", "--out", copy).returncode == 0


def test_a_truncated_last_checkpoint_falls_back_to_the_previous_one(copy):
    os.truncate(copy / "train/last.pt", 3000)
    done = call("train", "--out", copy, "--set", "training.epochs=4")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("last.pt.previous") == 1


def test_stages_out_of_order_name_the_command_to_run_first(tmp_path):
    for stage, words in (("search", "rcdp prepare"), ("train", "rcdp prepare"), ("evaluate", "rcdp prepare")):
        done = call(stage, "digits", "--out", tmp_path, *flags())
        assert done.returncode == 2, done.stdout
        assert words in errors(done)[0]


def test_no_configuration_and_no_run_directory(tmp_path):
    done = call("train", "--out", tmp_path / "none")
    assert done.returncode == 2
    assert "Name a configuration" in errors(done)[0]


def test_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    done = call("prepare", "digits", "--out", tmp_path / "file" / "run")
    assert done.returncode == 2
    assert len(errors(done)) == 1
    assert str(tmp_path / "file") in errors(done)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_up_loses_nothing(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a small disk")
    try:
        assert call("prepare", "digits", "--out", disk / "run", *flags()).returncode == 0
        before = {path.name: path.read_bytes() for path in (disk / "run/shards").iterdir()}
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'ballast'}", "bs=1k"], capture_output=True, check=False)
        done = call("run", "digits", "--out", disk / "run", *flags())
        assert done.returncode == 1, done.stdout
        assert len(errors(done)) == 1
        assert "no space left" in errors(done)[0]
        assert "Traceback" not in done.stdout
        assert {path.name: path.read_bytes() for path in (disk / "run/shards").iterdir()} == before
        (disk / "ballast").unlink()
        # The disk has space again: the same command continues.
        shutil.copytree(disk / "run", tmp_path / "rescued")
        assert call("run", "digits", "--out", tmp_path / "rescued", *flags()).returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def without(*packages: str) -> dict[str, str]:
    """An environment in which importing these packages fails as if they were not installed."""
    return {"RCDP_TEST_BLOCKED": ",".join(packages)}


BLOCKED = (
    "import os, sys\n"
    "class Block:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name.partition('.')[0] in os.environ['RCDP_TEST_BLOCKED'].split(','):\n"
    "            raise ImportError(f'No module named {name!r} (blocked)')\n"
    "sys.meta_path.insert(0, Block())\n"
    "from rcdp_hpc.cli import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


def test_without_torch_the_training_names_it(copy):
    done = run_ranks(0, [*python(BLOCKED), "train", "--out", str(copy)], env=without("torch"))
    assert done.returncode == 2
    assert "needs torch" in errors(done)[0]
    assert "make setup" in errors(done)[0]


def test_without_horovod_and_mpi_one_process_does_it_all(tmp_path):
    command = [*python(BLOCKED), "run", "digits", "--out", str(tmp_path), *flags()]
    done = run_ranks(0, command, env=without("horovod", "mpi4py"))
    assert done.returncode == 0, done.stdout


@pytest.mark.mpi
def test_without_mpi_several_ranks_name_it(tmp_path):
    command = [*python(BLOCKED), "prepare", "digits", "--out", str(tmp_path / "run")]
    done = run_ranks(2, command, env=without("mpi4py"))
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("mpi4py or the MPI library cannot be loaded") == 1
    assert not (tmp_path / "run").exists()


def test_importing_the_package_needs_neither_torch_nor_horovod_nor_mpi():
    code = BLOCKED.partition("from rcdp_hpc.cli")[0] + "import rcdp_hpc, rcdp_hpc.cli, rcdp_hpc.cli.status\n"
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env=environment(without("torch", "horovod", "mpi4py", "h5py", "sklearn")),
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("config digits training.batch=2", "unexpected argument: training.batch=2 (every setting needs its own --set)"),
        ("verify run other", "unexpected argument: other"),
        ("trian --out x", "trian is not a command; did you mean train?"),
        ("mnist", "mnist is not a command; did you mean rcdp run mnist?"),
        ("frobnicate", "frobnicate is not a command. Commands: run, prepare,"),
        ("run digits --ot x", "rcdp run has no option --ot; did you mean --out?"),
        ("run digits --out x --batch=2", "rcdp run has no option --batch"),
        ("run -n 4 digits", "rcdp run has no option -n. Options: "),
        ("--verison", "rcdp has no option --verison; did you mean --version?"),
        ("run digits", "--out is missing; example: rcdp run digits --out runs/first"),
        ("predict run", "SAMPLES, --to is missing; example: rcdp predict"),
        ("train --out=", "argument --out: the path is empty"),
        ("inspect run --ranks two", "argument --ranks: 'two': expected a number from 0 to 99999"),
        ("completion tcsh", "invalid choice: 'tcsh'"),
        ("help trian", "trian is not a command; did you mean train?"),
    ],
)
def test_a_mistyped_command_is_one_message_and_code_2(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("rcdp: error: ")
    assert message in first
    assert second.startswith("See: rcdp ")
    assert second.endswith("--help")


def test_an_option_may_be_shortened(capsys):
    assert main(["config", "digits", "--se", "training.epochs=3"]) == 0
    assert "\nepochs = 3\n" in capsys.readouterr().out


def test_config_prints_toml_even_if_messages_are_logged(capsys):
    report_left_out.cache_clear()  # another test may have had the same configuration
    assert main(["config", "digits", "--set", "data.source=csv"]) == 0
    printed = capsys.readouterr()
    assert tomllib.loads(printed.out)["data"]["source"] == "csv"
    assert "left out" in printed.err
