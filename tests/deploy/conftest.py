"""Small models for tests of prediction, each trained in a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rcdp_hpc.config import load_config
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory

QUICK = (
    "data.class_keep_fractions=[]", "data.shards=1",
    "search.generations=0", "reservoir.nodes=30", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "reservoir.states=1", "reservoir.sequence=rows", "readout.kind=ridge",
    "training.threads=1", "run.progress=false",
)  # fmt: skip


def trained_run(out: Path, settings: Sequence[str], stages: Sequence[str] = ("prepare", "train")) -> RunDirectory:
    """Run some stages with a small reservoir and a solved readout."""
    run_stages(list(stages), load_config("digits", [*QUICK, *settings]), out)
    return RunDirectory(out)
