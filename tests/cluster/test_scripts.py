"""Job scripts: quoted names, and options of sbatch."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launch import BIN

from rcdp_hpc.cluster.array import Array
from rcdp_hpc.cluster.scripts import DEFAULT_SITE, SHARED, log_pattern, script_text, site_options
from rcdp_hpc.cluster.slurm import Submission, read_submissions, record_submission
from rcdp_hpc.cluster.submit import format_jobs, plan_jobs
from rcdp_hpc.config import load_config
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.text import plain_lines

DIGITS = load_config("digits")
STAGES = ("prepare", "search", "train", "all", "seeds", "configs", "folds")
HOSTILE = st.text(
    st.one_of(st.sampled_from("$`\"'\\;&|<>(){}*?~#!% \n\r\t-=,"), st.characters(exclude_categories=["Cs"])), min_size=1
).filter(lambda name: name not in (".", "..") and "/" not in name and "\0" not in name)


def shell_sees(text: str) -> list[str]:
    """Run a script up to its functions, and return the values of its variables."""
    head = text.partition('. "$shared"')[0]
    code = head + 'printf "%s\\0" "$RUN" "$CONFIG" "$RCDP_SITE" "$shared" "$RCDP_VENV"'
    done = subprocess.run(["/bin/bash", "-uc", code], capture_output=True, timeout=20, env={"PATH": "/nowhere"})
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@given(name=HOSTILE)
@pytest.mark.parametrize("stage", ["prepare", "search", "train", "all"])
def test_hostile_names_are_quoted(stage, name):
    run, environment = Path("/runs") / name, Path("/venvs") / name
    if any(ord(letter) < 32 or letter in "\\\x7f" for letter in name):
        with pytest.raises(InputError, match="control character"):
            script_text(stage, DIGITS, run, environment)
        return
    text = script_text(stage, DIGITS, run, environment)
    jobs = f"{run}/jobs"
    expected = [str(run), f"{jobs}/config.toml", f"{jobs}/site.sh", f"{jobs}/job.sh", str(environment)]
    assert shell_sees(text) == expected
    assert plain_lines(text) == text


@given(name=HOSTILE)
def test_lines_for_sbatch_have_no_text_of_the_user(name):
    run = Path("/runs") / name.translate({**dict.fromkeys(range(32)), 127: None, 92: None}) / "x"
    for stage in STAGES:
        mine, plain = (script_text(stage, DIGITS, path, run).split("\n") for path in (run, Path("/x")))
        assert [line for line in mine if line.startswith("#SBATCH")] == [
            line for line in plain if line.startswith("#SBATCH")
        ]


def test_a_percent_sign_in_a_name_is_doubled():
    assert log_pattern(Path("/runs/50%j"), "search") == "/runs/50%%j/logs/search-%j.log"
    assert log_pattern(Path("/runs/x"), "seeds") == "/runs/x/logs/seeds-%A_%a.log"


def test_a_chain_has_dependencies_and_no_empty_search(tmp_path):
    run = RunDirectory(tmp_path)
    jobs = plan_jobs(DIGITS, run)
    assert [job.stage for job in jobs] == ["prepare", "search", "train"]
    assert "--dependency=afterok:17" in jobs[1].command(run, "17")
    assert not any("--dependency" in word for word in jobs[0].command(run))
    without = load_config("digits", ["search.generations=0"])
    assert [job.stage for job in plan_jobs(without, run)] == ["prepare", "train"]
    assert [job.stage for job in plan_jobs(DIGITS, run, one_job=True)] == ["all"]
    jobs = plan_jobs(DIGITS, run, array=Array("seeds", DIGITS, ("seed-1", "seed-2")))
    assert [job.stage for job in jobs] == ["prepare", "seeds"]
    assert "--array=1-2" in jobs[1].options
    assert "--array=1-2" not in jobs[0].options
    assert [job.stage for job in plan_jobs(DIGITS, run, array=Array("folds", DIGITS, ("fold-1",)))] == ["folds"]
    assert not list(tmp_path.iterdir())


def test_a_search_requests_at_most_one_rank_per_candidate():
    assert "--ntasks=8\n" in script_text("search", DIGITS, Path("/x"), Path("/y"))
    many = load_config("digits", ["search.population=50", "search.threads=3"])
    assert "--ntasks=16\n#SBATCH --cpus-per-task=3\n" in script_text("search", many, Path("/x"), Path("/y"))


def test_options_of_a_site_reach_sbatch_unchanged(tmp_path):
    site = tmp_path / "my site.sh"
    site.write_text("EVERY_JOB=(--account='a b' --comment='$(touch x)')\nSEARCH_JOB=(--ntasks=64)\nPREPARE_JOB=()\n")
    assert site_options(site, "search") == ["--account=a b", "--comment=$(touch x)", "--ntasks=64"]
    assert site_options(site, "prepare") == ["--account=a b", "--comment=$(touch x)"]
    assert site_options(DEFAULT_SITE, "train") == []
    text = format_jobs(plan_jobs(DIGITS, RunDirectory(tmp_path / "run"), site), RunDirectory(tmp_path / "run"))
    assert "'--account=a b'" in text


@given(name=HOSTILE)
def test_hostile_names_of_configurations_are_quoted(name):
    names = ("config-plain", f"config-{name}")
    if any(ord(letter) < 32 or letter in "\\\x7f" for letter in name):
        with pytest.raises(InputError, match="control character"):
            script_text("configs", DIGITS, Path("/x"), Path("/y"), names)
        return
    head = script_text("configs", DIGITS, Path("/x"), Path("/y"), names).partition("mkdir")[0]
    code = head + 'printf "%s\\0" "$RUN" "$CONFIG"'
    done = subprocess.run(["/bin/bash", "-uc", code], capture_output=True, timeout=20, env={"SLURM_ARRAY_TASK_ID": "2"})
    assert done.stderr == b""
    assert done.stdout.decode().split("\0")[:-1] == [f"/x/config-{name}", "/x/jobs/configs/2.toml"]


@pytest.mark.parametrize("stage", STAGES)
def test_shellcheck_finds_nothing_in_job_scripts(stage, tmp_path):
    for file in (SHARED, DEFAULT_SITE):
        shutil.copyfile(file, tmp_path / file.name)
    script = tmp_path / "job.sbatch"
    script.write_text(script_text(stage, DIGITS, Path("/a b"), Path("/it's"), ["config-a b"]))
    # The path of the sourced file is in a variable that is set only in the job.
    done = subprocess.run(
        [BIN / "shellcheck", "--exclude=SC1090,SC1091,SC2034", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_jobs_are_recorded_and_an_altered_list_is_refused(tmp_path):
    file = tmp_path / "submitted.jsonl"
    assert read_submissions(file) == []
    jobs = [Submission("prepare", "17"), Submission("x", "1; rm")]
    for job in jobs:
        record_submission(file, job)
    assert read_submissions(file) == jobs[:1]
    whole = file.read_text()
    for damaged in (whole.replace("17", "18"), whole[:-9], "[]\n" + whole, '{"stage": "x", "job": "1"}\n'):
        file.write_text(damaged)
        with pytest.raises(DataDamagedError, match=r"line \d was cut short or altered.*squeue --me"):
            read_submissions(file)
