"""Libraries that stages need, on machines where they are missing."""

import sys

import pytest

import rcdp_hpc
from rcdp_hpc.config import ParallelSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.requirements import require_engine, require_torch_for
from rcdp_hpc.runtime.comm.single import SingleProcess


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def test_a_run_without_torch_is_refused_before_the_preparation(no_torch, tmp_path):
    with pytest.raises(InputError, match=r"this stage needs torch.*rcdp_hpc\[torch\]") as refused:
        rcdp_hpc.run("digits", tmp_path / "run")
    assert refused.value.agreed
    assert not (tmp_path / "run").exists()


def test_preparation_and_search_do_not_ask_for_torch(no_torch):
    """A search of zero generations does nothing."""
    require_torch_for(["prepare", "search"], SingleProcess())


def test_one_rank_may_name_any_engine():
    require_engine(SingleProcess(), ParallelSection(engine="horovod"))
