"""Journals of a job that was killed or hung, read by a job with other settings that may change."""

from __future__ import annotations

import pytest
from search.fake_fitness import CheapFitness, cheap_config
from search.outcome import outcome
from search.ranks import Ranks

from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search

DONE = 10  # candidates of the killed job; the checkpoint lacks the last three


@pytest.mark.parametrize("hung", [False, True])
def test_a_job_of_other_group_size_and_limit_repeats_no_candidate_and_skips_the_one_that_hung(tmp_path, hung):
    config = cheap_config(candidate_seconds=60.0)

    class Lost(CheapFitness):
        def __call__(self, values):
            if self.calls < DONE:
                return super().__call__(values)
            if hung:
                (tmp_path / "lost/journal/rank-00000.hang").write_text("it hangs\n")  # as the watchdog does
            raise KeyboardInterrupt

    run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run_search(config, SingleProcess(), Lost(config), tmp_path / "lost")
    other = cheap_config(candidate_seconds=90.0, group_ranks=2, candidate_memory=100)
    other.data.path = "elsewhere"
    rest = [CheapFitness(other), CheapFitness(other)]
    Ranks(2).run(lambda comm: run_search(other, comm, rest[comm.rank], tmp_path / "lost"))
    lines = read_sealed_lines(tmp_path / "lost/history.jsonl")
    assert sum(one.calls for one in rest) == sum(not line["reused"] for line in lines) - DONE - hung
    reasons = [line["reason"] for line in lines if not line["reused"]]
    assert reasons.count("hung: did not return within 60 s") == hung
    assert (outcome(tmp_path / "lost") == outcome(tmp_path / "whole")) is not hung
