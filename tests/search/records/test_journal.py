"""Journals of a job that was killed or hung, read by a job with other settings that may change."""

from __future__ import annotations

import numpy as np
import pytest
from search.fake_fitness import CheapFitness, cheap_config
from search.outcome import outcome
from search.ranks import Ranks

from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.records.journal import Journal

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


class InBatches(CheapFitness):
    """Evaluates four candidates at once, and is killed in the call of a number."""

    candidates_at_once = 4

    def __init__(self, config, killed_in: int = 0) -> None:
        super().__init__(config)
        self.killed_in = killed_in
        self.sizes: list[int] = []

    def evaluate(self, candidates):
        self.sizes.append(len(candidates))
        if len(self.sizes) == self.killed_in:
            raise KeyboardInterrupt
        return super().evaluate(candidates)


@pytest.mark.parametrize("limit", [0.0, 60.0])
def test_after_a_batch_that_did_not_return_its_candidates_are_evaluated_one_by_one(tmp_path, limit):
    config = cheap_config(candidate_seconds=limit)
    whole = InBatches(config)
    run_search(config, SingleProcess(), whole, tmp_path / "whole")
    assert whole.sizes[:2] == [4, 3]
    with pytest.raises(KeyboardInterrupt):
        run_search(config, SingleProcess(), InBatches(config, killed_in=2), tmp_path / "lost")
    left = list((tmp_path / "lost/journal").glob("*.batch.json"))
    assert len(left) == (1 if limit else 0)
    resumed = InBatches(config)
    run_search(config, SingleProcess(), resumed, tmp_path / "lost")
    # Those of the lost batch are calls of single candidates.
    assert resumed.sizes == whole.sizes[2 if limit else 1 :]
    assert resumed.calls == whole.calls - 4
    assert outcome(tmp_path / "lost") == outcome(tmp_path / "whole")


def test_a_damaged_record_of_a_batch_is_left_out(tmp_path, caplog):
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "rank-00000.batch.json").write_text("{}")
    journal = Journal(tmp_path, 1, "digest", 5.0)
    assert not journal.was_in_lost_batch(np.zeros(2))
    assert "evaluated in batches again" in caplog.text
