"""Ranks started with different settings are refused: one message on all of them, with keys, values and ranks."""

from __future__ import annotations

import pytest
from parallel.thread_ranks import on_ranks

from rcdp_hpc.config import load_config, to_tree
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.same_settings import refuse_different_settings


def refusals(*settings: list[str]) -> list[str]:
    """Return the message on each rank, given its settings; empty if there is none."""

    def check(comm) -> str:
        try:
            refuse_different_settings(comm, to_tree(load_config("digits", settings[comm.rank])))
        except InputError as error:
            return str(error) if error.agreed else "not agreed"
        return ""

    return on_ranks(len(settings), check)


def test_equal_settings_are_accepted():
    assert refusals(["run.seed=2"], ["run.seed=2"], ["run.seed=2"]) == ["", "", ""]


@pytest.mark.parametrize("settings", [(["data.path=/a"], ["data.path=/b"]), ([], ["run.progress=false"])])
def test_folders_and_what_the_terminal_shows_may_differ(settings):
    assert refusals(*settings) == ["", ""]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ([["parallel.engine=horovod"], []], "parallel.engine is 'horovod' on rank 0, 'auto' on rank 1. "),
        ([[], ["run.seed=4"], []], "run.seed is 1 on ranks 0, 2, 4 on rank 1. "),
        ([["data.balance=none"]] + 7 * [[]], " on ranks 1, 2, 3, 4, 5 and 2 more. "),
        ([[], [f"training.{key}=7" for key in ("epochs", "patience", "batch", "threads")] + ["run.seed=7",
          "readout.hidden=7"]], "; and 1 more keys differ"),
    ],
)  # fmt: skip
def test_different_settings_are_named_with_their_ranks(settings, named):
    first, *others = refusals(*settings)
    assert first.startswith("the settings differ between ranks: ")
    assert named in first
    assert all(other == first for other in others)
