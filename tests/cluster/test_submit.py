"""`rcdp submit` with a fake sbatch, and the next command that `rcdp status` shows."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from launch import REPOSITORY

from rcdp_hpc.cli import main
from rcdp_hpc.cli.hints import what_next
from rcdp_hpc.cluster.scripts import DEFAULT_SITE
from rcdp_hpc.cluster.slurm import Submission, read_submissions, record_submission
from rcdp_hpc.config import STAGES, load_config
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import settings_of

HOSTILE = 'it\'s $(touch pwned) "a" ; #x'


@pytest.fixture
def folder(tmp_path, monkeypatch, fake) -> Path:
    """The user's folder, with a site file and a configuration in it; jobs are numbered from 1."""
    fake("sbatch", f'echo x >>"{tmp_path}/numbers"; wc -l <"{tmp_path}/numbers"')
    fake("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    folder = tmp_path / HOSTILE
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("RCDP_SITE", raising=False)
    (folder / "site.sh").write_text(DEFAULT_SITE.read_text())
    (folder / "my.toml").write_text("[data]\nsource = 'digits'\n")
    return folder


def next_line(run: str | Path, capsys) -> str:
    capsys.readouterr()
    assert main(["status", str(run)]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_every_next_command_quotes_names(folder, capsys):
    run = RunDirectory(folder / "run")

    def names() -> set[str]:
        return {word.rstrip("),") for word in shlex.split(next_line(run.path, capsys))}

    run.jobs.mkdir(parents=True)
    assert str(run.path) in names()
    record_submission(run.submitted, Submission("all", "1"))
    assert f"{run.path}/logs" in names()
    for stage in STAGES:
        run.record_state(stage, "done", seconds=1.0, ranks=1)
        assert str(run.path) in shlex.split(what_next(stage, run.path, load_config("digits")), comments=True)
    assert {str(run.path), f"{run.path}/report/summary.json"} <= names()
    task = RunDirectory(run.path / "seed-1")
    task.record_state("evaluate", "done")
    assert f"{run.path}/*/report/summary.json" in names()
    run.fold(1).path.mkdir()
    assert f"{run.path}/logs" in names()
    run.submitted.unlink()
    assert str(run.path) in names()


@pytest.mark.parametrize(
    "options",
    [
        ["my.toml", "--array=seeds=2", "--set=training.epochs=3", "--sbatch=--account=a b"],
        ["my.toml", "--one-job"],
        ["digits", "--site=site.sh"],
    ],
)
def test_the_next_command_is_the_earlier_submission(options, folder, fake, capsys, monkeypatch):
    monkeypatch.setenv("RCDP_SITE", "site.sh")
    assert main(["submit", "--out", "a run", *options]) == 0
    before = {path.name: path.read_bytes() for path in (folder / "a run/jobs").glob("*.sbatch")}
    line = next_line("a run", capsys).partition("continue with: ")[2]
    # The name of the folder is quoted; present environment variables are not needed later.
    assert shlex.split(line)[:3] == ["cd", str(folder), "&&"]
    assert "--site=site.sh" in shlex.split(line)
    fake("rcdp", 'printf "%s\\n" "$PWD" "$@"')
    typed = subprocess.run(["bash", "-c", line], cwd="/", capture_output=True, text=True, timeout=20)
    place, *words = typed.stdout.splitlines()
    assert place == str(folder)
    assert set(options) <= set(words)
    monkeypatch.delenv("RCDP_SITE")
    assert main(words) == 0
    assert {path.name: path.read_bytes() for path in (folder / "a run/jobs").glob("*.sbatch")} == before
    assert not list(folder.parent.rglob("pwned"))
    assert os.environ["PATH"].startswith(str(folder.parent))


def test_the_command_that_follows_the_jobs_names_their_logs(folder, capsys):
    assert main(["submit", "my.toml", "--out=run", "--array=seeds=2"]) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1].partition("follow with: ")[2])
    assert words[-2:] == [f"{folder}/run/logs/{name}" for name in ("prepare-1.log", "seeds-2_1.log")]


def test_a_site_file_may_be_the_earlier_copy(folder):
    for site in ("site.sh", "run/jobs/site.sh"):
        assert main(["submit", "my.toml", "--out=run", f"--site={site}"]) == 0
        assert (folder / "run/jobs/site.sh").read_text() == DEFAULT_SITE.read_text()
    assert not list((folder / "run/jobs").glob(".*"))


def test_a_refused_job_is_reported_if_earlier_ones_cannot_be_cancelled(folder, fake, capsys):
    fake(
        "sbatch",
        f"""
        case "$*" in *train.sbatch*) echo 'invalid partition' >&2; exit 1 ;; esac
        echo x >>numbers; wc -l <numbers
        cp {shlex.quote(str(folder))}/run/jobs/submitted.jsonl noted 2>/dev/null || true
        """,
    )
    fake("scancel", "echo 'no controller' >&2; exit 1")
    assert main(["submit", "my.toml", "--out=run"]) == 1
    said = capsys.readouterr().err
    assert "rcdp: error: Slurm refused the job train: sbatch failed: invalid partition" in said
    assert "still in the queue: prepare (job 1), search (job 2). scancel failed: no controller" in said
    assert "scancel 1 2" in said
    # The first job was recorded before the second was submitted.
    assert len((folder / "noted").read_text().splitlines()) == 1


def test_a_refused_job_is_named_with_the_line_to_change(folder, fake, capsys):
    fake(
        "sbatch",
        """
        case "$*" in *search.sbatch*) echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1 ;; esac
        echo x >>numbers; wc -l <numbers
        """,
    )
    fake("scancel", 'echo "$@" >cancelled')
    with open("site.sh", "a") as site:
        site.write("SEARCH_JOB=(--partition=gpu)\n")
    number = len(Path("site.sh").read_text().splitlines())
    assert main(["submit", "my.toml", "--out=run", "--site=site.sh"]) == 1
    said = capsys.readouterr().err
    assert "Slurm refused the job search: " in said
    assert "invalid partition specified: gpu" in said
    assert f"--partition=gpu   in SEARCH_JOB of site.sh, line {number}" in said
    assert "Submitted before it and cancelled: prepare (job 1)." in said
    assert Path("cancelled").read_text() == "1\n"


def test_a_chain_with_a_refused_job_leaves_no_job_in_the_queue(folder, fake):
    (folder / "slurm").symlink_to(REPOSITORY / "slurm")
    fake(
        "sbatch",
        """
        case "$*" in *train.sbatch) echo 'invalid partition' >&2; exit 1 ;; esac
        echo x >>numbers; wc -l <numbers
        """,
    )
    fake("scancel", 'echo "$@" >cancelled')
    done = subprocess.run(["slurm/chain.sh", "digits", "run"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "invalid partition" in done.stderr
    assert (folder / "cancelled").read_text() == "1 2\n"
    assert [one.job for one in read_submissions(folder / "run/jobs/submitted.jsonl")] == ["1", "2"]


@pytest.mark.parametrize("words", [["digits"], ["digits", ""], ["", "run"]])
def test_a_chain_without_a_run_directory_creates_none(words, tmp_path):
    done = subprocess.run([REPOSITORY / "slurm/chain.sh", *words], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("usage:")) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_killed_submission_are_removed(folder, dead_process):
    left = folder / f"run/jobs/.job.sh.{dead_process.tag}.abc.tmp"
    left.parent.mkdir(parents=True)
    left.touch()
    assert main(["submit", "digits", "--out", "run"]) == 0
    assert not left.exists()


def test_a_changed_configuration_is_named(folder, capsys):
    run, config = RunDirectory(folder / "run"), load_config("digits")
    run.write_config(config)
    run.record_state("train", "done", settings=settings_of("train", config))
    command = ["submit", "--out", str(run.path), "--dry-run"]
    assert main(command) == 0
    assert "warning" not in capsys.readouterr().err
    run.config_file.write_text("[training]\nepochs = 7\n")
    assert main(command) == 0
    assert f"{run.config_file} was changed since stage train used it: " in capsys.readouterr().err
    assert main([*command[:1], "digits", *command[1:]]) == 0
    assert "warning" not in capsys.readouterr().err
