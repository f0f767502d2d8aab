"""job.sh in plain bash, with fake ranks, launcher and Slurm: what a job does when a stage ends."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rcdp_hpc.cluster.scripts import SHARED
from rcdp_hpc.runtime.comm.lost_ranks import LostRankError, lost_rank_text

# Starts two ranks and exits with the highest code. Times of files may be coarse on the disk of the tests.
LAUNCH = """
/bin/sleep 0.05
for rank in 0 1; do SLURM_PROCID=$rank "$@" & ranks+=($!); done
trap 'kill -USR1 "${ranks[@]}"' USR1
code=0
for one in "${ranks[@]}"; do
    until wait "$one"; last=$?; ! kill -0 "$one" 2>/dev/null; do :; done
    if [ "$last" -gt "$code" ]; then code=$last; fi
done
exit "$code"
"""
# The work of each rank, with the code that the test writes to ranks.py.
RANK = """
import json, os, signal, sys, time
from pathlib import Path
rank, run = int(os.environ["SLURM_PROCID"]), Path(os.environ["RUN"])
def note(status):
    if rank == 0:
        (run / "state").mkdir(exist_ok=True)
        (run / "state/search.json").write_text(json.dumps({"status": status}, indent=1))
"""
LOST_PEER = lost_rank_text(LostRankError("Gloo", "Connection closed"), SimpleNamespace(rank=1, size=2), 600)


class Job:
    """A job of two ranks; `asked` has its requests to Slurm's controller."""

    def __init__(self, folder: Path, fake) -> None:
        self.folder, self.fake = folder, fake
        self.run = folder / "run"
        (self.run / "logs").mkdir(parents=True)
        self.site = folder / "site of mine.sh"
        self.site.write_text("load_environment() { :; }\n")
        self.set_facts("JobId=7 JobState=RUNNING Reason=None StdOut=/x JobState=FAILED")
        fake("launch", LAUNCH)
        fake("sleep", "exec /bin/sleep 0.3")

    def set_facts(self, facts: str) -> None:
        """Set the output of scontrol for the job."""
        self.fake("scontrol", f'echo "$@" >>{self.folder}/asked\n[ "$1" = requeue ] || echo {shlex.quote(facts)}')

    def asked(self) -> str:
        path = self.folder / "asked"
        return path.read_text() if path.exists() else ""

    def __call__(self, ranks: str, before: str = "") -> subprocess.CompletedProcess[str]:
        """Run the job; `before` is shell code that runs after job.sh is read."""
        (self.folder / "ranks.py").write_text(RANK + ranks)
        env = {
            **os.environ, "RUN": str(self.run), "RCDP_SITE": str(self.site), "SLURM_JOB_ID": "7",
            "RCDP_LAUNCH": "launch", "RCDP_COMMAND": f"{sys.executable} -S {self.folder}/ranks.py",
        }  # fmt: skip
        script = f'. {SHARED}\n{before}\non_ranks search --out "$RUN"'
        return subprocess.run(
            ["bash", "-c", script], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
        )


@pytest.fixture
def job(tmp_path, fake) -> Job:
    return Job(tmp_path, fake)


def printed_by_rank_1(text: str) -> str:
    return f"note('running')\nif rank: print('rcdp: error:', {text!r})\nsys.exit(1)\n"


def test_an_error_of_another_rank_than_0_ends_the_job_and_is_shown(job):
    done = job(printed_by_rank_1("rank 1 of 2 failed:\nTraceback"))
    assert done.returncode == 1, done.stdout
    assert "search ended with code 1\nrcdp: error: rank 1 of 2 failed:\n" in done.stdout
    assert "requeue" not in job.asked()


def test_the_message_of_a_lost_rank_is_not_an_error(job):
    done = job(printed_by_rank_1(LOST_PEER))
    assert done.returncode == 75, done.stdout
    assert "a node was lost" in done.stdout
    assert "Gloo reports: Connection closed" in done.stdout
    assert "requeue 7" in job.asked()


def test_errors_of_an_earlier_start_are_not_shown_again(job):
    log = job.run / "logs/search-7-rank1.log"
    log.write_text("rcdp: error: rank 1 of 2 failed\n")
    os.utime(log, (0, 0))
    assert job("note('running')\nsys.exit(1)\n").returncode == 75
    assert "requeue 7" in job.asked()
    os.utime(log, (0, 0))
    done = job("note('failed')\nsys.exit(1)\n")
    assert done.returncode == 1
    assert "rank 1 of 2" not in done.stdout


STOP = "note('running')\nsignal.signal(signal.SIGUSR1, lambda *_: (note({!r}), sys.exit({})))\ntime.sleep(30)\n"
WHEN_IT_RUNS = '{ until [ -e "$RUN/state/search.json" ]; do /bin/sleep 0.1; done; kill -USR1 $$; } &'


@pytest.mark.parametrize(("status", "code", "job_code"), [("stopped", 75, 75), ("failed", 1, 1)])
def test_a_stopped_job_is_requeued_unless_it_failed(status, code, job_code, job):
    done = job(STOP.format(status, code), before=WHEN_IT_RUNS)
    assert done.returncode == job_code, done.stdout
    assert ("requeue 7" in job.asked()) == (job_code == 75)
    assert ("stopped with a checkpoint" in done.stdout) == (job_code == 75)


def test_a_signal_just_before_the_ranks_are_started_reaches_them(job):
    done = job(STOP.format("stopped", 75), before=":() { kill -USR1 $$; }")
    assert done.returncode == 75, done.stdout
    assert "requeue 7" in job.asked()


def test_signals_do_not_end_a_rank_that_is_starting(job):
    kills = "".join(f"os.kill(os.getpid(), signal.SIG{name})\n" for name in ("USR1", "USR2", "TERM"))
    assert job(kills).returncode == 0


@pytest.mark.parametrize(("facts", "requeued"), [("", True), ("JobId=7 JobState=CANCELLED Reason=x", False)])
def test_a_job_of_unknown_state_tries_to_be_requeued(facts, requeued, job):
    job.set_facts(facts)
    done = job("note('stopped')\nsys.exit(75)\n")
    assert done.returncode == 75
    assert ("requeue 7" in job.asked()) == requeued
    assert ("Slurm is ending the job itself (CANCELLED)" in done.stdout) == (not requeued)


def test_a_site_file_may_read_unset_variables(job):
    job.site.write_text('load_environment() { echo "$NOT_SET"; }\n[ -z "$NOT_SET_EITHER" ]\n')
    done = job("")
    assert done.returncode == 0, done.stdout


def test_an_environment_that_cannot_be_loaded_names_the_site_file(job):
    job.site.write_text("load_environment() { module load nowhere; }\n")
    done = job("")
    assert done.returncode == 2
    assert f"rcdp: error: load_environment of {job.site} failed" in done.stdout
    assert not job.asked()
