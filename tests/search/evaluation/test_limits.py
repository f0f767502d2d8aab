"""Limits of a candidate, and resuming after a candidate exceeded them."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time

import numpy as np
import pytest
from launch import REPOSITORY, run_ranks
from search.fake_fitness import CheapFitness, cheap_config
from search.group_search import small_config, small_data
from search.outcome import outcome
from settings import changed

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.limits import estimated_bytes, memory_limit, time_limit
from rcdp_hpc.search.records.journal import Journal, read_journals

CHEAP = [sys.executable, str(REPOSITORY / "tests" / "search" / "fake_fitness.py")]
HANGING = [sys.executable, str(REPOSITORY / "tests" / "search" / "hanging.py")]
VALUES = np.array([0.1, 1.0, 0.5])


def test_the_alarm_interrupts_python_code_that_catches_all_exceptions():
    def catching():
        while True:
            with contextlib.suppress(Exception):
                time.sleep(10)

    started = time.monotonic()
    with pytest.raises(CandidateError, match=r"longer than search.candidate_seconds = 0.2"), time_limit(0.2):
        catching()
    assert time.monotonic() - started < 5
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize(("bands", "machines"), [("joined", 1), ("separate", 6)])
def test_the_estimate_of_an_extreme_learning_machine_has_its_sums(bands, machines):
    readout = {"kind": "elm", "hidden": 500, "layers": 3, "bands": bands}
    config = changed(small_config(evaluation="train"), readout=readout, reservoir={"kind": "none"})
    sums = 8 * (500 * 500 + 500 * 500)  # H'H and H'X of the second layer
    found = estimated_bytes(config, (6, 4), 100, 3)
    assert machines * sums < found < 8 * machines * sums


def test_no_limit_sets_no_alarm():
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0):
        assert signal.getsignal(signal.SIGALRM) is before
    with time_limit(60):
        pass
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_candidate_over_its_time_fails():
    config = small_config(candidate_seconds=1e-9)
    evaluation = ReservoirFitness(config, small_data())({"density": 0.2, "leak": 0.5, "activation": "tanh"})
    assert evaluation.reason == "took longer than search.candidate_seconds = 1e-09"
    assert evaluation.fitness == -np.inf


class Sleepy(CheapFitness):
    """Candidates of a leak above 0.4 sleep until their time is up; a stop signal arrives at one call."""

    def __init__(self, config: Config, call: int = 0) -> None:
        super().__init__(config)
        self.call, self.asleep = call, []

    def __call__(self, values):
        if self.calls + 1 == self.call:
            signals._remember(signal.SIGUSR1, None)
        return super().__call__(values)

    def measure(self, values):
        with time_limit(self.config.search.candidate_seconds):
            if 0.4 < values["leak"] <= 0.8:
                self.asleep.append(values["leak"])
                time.sleep(10)
            return super().measure(values)


def test_candidates_over_their_time_are_not_repeated_on_resume(tmp_path):
    config = cheap_config(candidate_seconds=0.1, generations=2)
    before, after = Sleepy(config, call=10), Sleepy(config)
    with pytest.raises(StoppedError):
        run_search(config, SingleProcess(), before, tmp_path)
    signals.clear()
    run_search(config, SingleProcess(), after, tmp_path)
    assert before.asleep
    assert not set(before.asleep) & set(after.asleep)
    lines = read_sealed_lines(tmp_path / "history.jsonl")
    late = {line["values"]["leak"] for line in lines if (line["reason"] or "").startswith("took longer")}
    assert late == {*before.asleep, *after.asleep}


def test_memory_is_estimated_and_refused():
    config = small_config(candidate_memory=1)
    assert memory_limit(config, 1) == 2**20
    assert 0 < memory_limit(small_config(), 2) <= memory_limit(small_config(), 1)
    fitness = ReservoirFitness(config, small_data(), memory=2**10)
    evaluation = fitness({"density": 0.2, "leak": 0.5, "activation": "tanh"})
    assert "needs about" in evaluation.reason
    assert "search.candidate_memory" in evaluation.reason


def test_the_estimate_grows_with_the_sizes_of_a_candidate():
    config = small_config()
    config.readout.ridge_selection = "validation"

    def estimate(**changed):
        reservoir = config.reservoir.model_copy(update=changed)
        return estimated_bytes(config.model_copy(update={"reservoir": reservoir}), (40, 5), 400, 4)

    assert estimate(nodes=4000) > 3 * 8 * 8000**2 > estimate()
    assert estimate(nodes=400, reduction=["all"]) > 3 * 8 * (40 * 400) ** 2
    assert estimate(nodes=400, scans=["rows", "columns"], layers=2) > 3 * 8 * (4 * 400) ** 2 > estimate(nodes=400)


def test_partial_results_survive_kill_and_are_not_evaluated_again(tmp_path):
    killed = run_ranks(0, [*CHEAP, str(tmp_path / "killed"), "SIGKILL", "5"], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    config = cheap_config()
    whole, rest = CheapFitness(config), CheapFitness(config)
    run_search(config, SingleProcess(), whole, tmp_path / "whole")
    run_search(config, SingleProcess(), rest, tmp_path / "killed")
    assert rest.calls == whole.calls - 4  # the fifth was in progress
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")
    assert not (tmp_path / "killed" / "journal").exists()


def test_journals_of_other_settings_and_lines_cut_short_are_ignored(tmp_path):
    journal = Journal(tmp_path, 3, "here")
    journal.begin(1, -1)
    evaluation = CheapFitness(cheap_config())({"density": 0.1, "input_scaling": 1.0, "leak": 0.5})
    failed = CheapFitness(cheap_config())({"density": 0.1, "input_scaling": 1.0, "leak": 0.9})
    journal.record(VALUES, evaluation)
    journal.record(VALUES + 1, failed)
    journal.close()
    with journal.paths[1].open("a") as file:
        file.write('{"digest": "here", "generat')
    read = read_journals(tmp_path, "here")
    assert list(read) == [(VALUES.tobytes(), 1.0), ((VALUES + 1).tobytes(), 1.0)]
    one, other = read.values()
    assert (one.fitness, one.error, one.rank) == (evaluation.fitness, evaluation.error, 3)
    assert (other.fitness, other.reason) == (-np.inf, failed.reason)
    assert read_journals(tmp_path, "elsewhere") == {}


def test_a_journal_is_emptied_when_a_checkpoint_has_its_generations(tmp_path):
    journal = Journal(tmp_path, 0, "here")
    evaluation = CheapFitness(cheap_config())({"density": 0.1, "input_scaling": 1.0, "leak": 0.5})
    for generation, settled, lines in ((1, -1, 1), (2, 0, 2), (3, 0, 3), (4, 2, 3), (5, 3, 2)):
        journal.begin(generation, settled)
        journal.record(VALUES + generation, evaluation)
        assert len(read_journals(tmp_path, "here")) == lines, generation
    journal.close()


@pytest.mark.parametrize("how", ["free", "held"])
def test_a_hang_in_native_code_ends_the_job_and_has_failed_on_resume(tmp_path, how):
    """The watchdog names the candidate; if native code holds the interpreter, a timer ends the process."""
    hung = run_ranks(0, [*HANGING, str(tmp_path), how], timeout=60)
    assert hung.returncode == 1, hung.stdout
    if how == "free":
        assert "rank 0: the candidate density = " in hung.stdout
        assert "it hangs, and the job is ended" in hung.stdout
    config = cheap_config(candidate_seconds=0.3)
    rest = CheapFitness(config)
    run_search(config, SingleProcess(), rest, tmp_path)
    lines = read_sealed_lines(tmp_path / "history.jsonl")
    hanging = [line for line in lines if line["reason"] == "hung: did not return within 0.3 s"]
    assert len(hanging) >= 1
    assert not hanging[0]["reused"]
    assert rest.calls == sum(not line["reused"] for line in lines) - 4  # three before it, and itself
    assert json.loads(json.dumps(hanging[0]))["fitness"] is None
