"""The job array of a comparison."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rcdp_hpc.cluster.submit import plan_jobs
from rcdp_hpc.comparison.job_array import cells_array
from rcdp_hpc.comparison.plan import make_plan
from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.rundir import RunDirectory


def test_a_job_prepares_the_data_and_each_cell_is_a_task():
    config = load_config("digits", ["compare.methods=mfo,ridge,mine:Method", "compare.seeds=1,2"])
    data, cells = plan_jobs(config, RunDirectory(Path("/runs/compared")), array=cells_array(config))
    assert (data.stage, cells.stage) == ("data", "cells")
    assert 'on_ranks compare "$CONFIG" --out "$RUN" --data-only' in data.text
    assert "--array=1-6" in cells.options
    assert 'on_ranks compare "$CONFIG" --out "${RUN%/cells/*}" --cell "$SLURM_ARRAY_TASK_ID"' in cells.text
    # The task of a number works in the folder of the cell of that number.
    (listed,) = re.findall(r"names=\(\n(.*?)\n\)", cells.text, re.DOTALL)
    assert listed.split("\n") == [f"cells/{cell.name}" for cell in make_plan(config).cells]


def test_an_array_without_candidates_is_refused():
    with pytest.raises(InputError, match=r"search\.generations = 0"):
        cells_array(load_config("digits", ["search.generations=0"]))
    floors = load_config("digits", ["search.generations=0", "compare.methods=ridge,logistic"])
    assert len(cells_array(floors).names) == 2
