"""The plan: measurements scaled to the work and divided by the ranks."""

from __future__ import annotations

import math
import re

import pytest
from launch import rcdp, run_ranks

from rcdp_hpc.cluster.estimates import PROCESS_BYTES, Measured, StagePlan, Work, stages_of
from rcdp_hpc.cluster.plan import format_plan
from rcdp_hpc.cluster.scripts import Resources, resources
from rcdp_hpc.config import load_config
from rcdp_hpc.pipeline.stages import run
from rcdp_hpc.runtime.ram import MIB
from rcdp_hpc.runtime.rundir import RunDirectory

QUICK = ["reservoir.nodes=40", "reservoir.kernel=dense-fp32", "search.population=4", "search.generations=2"]
NO_STATES = ["search.generations=0", "reservoir.kind=none"]
LEFT = {"prepare": MIB, "search": 200, "train": 3 * MIB, "evaluate": 400}
MEASURED = Measured(10.0, 0.5, 0.001, 0.01, 1000, 7.0, LEFT, "a run")


def work(*settings: str, rows: int = 4000) -> Work:
    config = load_config("digits", ["search.population=20", "search.generations=7", "training.epochs=30", *settings])
    return Work(config, MEASURED, (8, 8), rows, 10)


def plans(*settings: str, rows: int = 4000) -> dict[str, StagePlan]:
    """Return the estimates of all stages, with the evaluation in the job of the training."""
    given = work(*settings, rows=rows)
    jobs = [stage for stage in stages_of(given.config) if stage != "evaluate"]
    found = [plan for stage in jobs for plan in given.plans(stage, resources(stage, given.config))]
    return {plan.stage: plan for plan in found}


def test_work_is_divided_by_the_ranks():
    found = plans()
    assert found["prepare"].seconds == 10
    # 20 candidates on 16 ranks are two rounds per generation.
    assert found["search"].seconds == pytest.approx(7 * 2 * 0.5)
    assert found["train"].seconds == pytest.approx((0.01 + 0.001 * 30) * 4000 / 4)
    assert list(plans("search.generations=0")) == ["prepare", "train", "evaluate"]


def test_only_the_size_of_the_shards_depends_on_the_rows():
    assert [plan.left for plan in plans(rows=4000).values()] == [4 * MIB, 200, 3 * MIB, 400]


def test_the_training_job_evaluates_and_one_job_does_all():
    found, given = plans(), work()
    train, together = (given.job(stage, resources(stage, given.config)) for stage in ("train", "all"))
    assert train.seconds == pytest.approx(found["train"].seconds + 7)
    # 20 candidates on 4 ranks are five rounds per generation.
    assert together.seconds == pytest.approx(10 + 7 * 5 * 0.5 + found["train"].seconds + 7)
    assert together.memory == max(plan.memory for plan in found.values())
    assert together.option_line().startswith("ALL_JOB=(--ntasks=4 ")


def test_the_memory_of_a_preparation_is_at_most_its_budget():
    small, large, wide = (plans(rows=rows)["prepare"].memory for rows in (1000, 2000, 10**8))
    assert large - small == 5 * 1000 * 4 * 64
    assert wide == plans(rows=10**9)["prepare"].memory == 350 * MIB + 4096 * MIB
    lower = plans("data.memory_budget=512", rows=10**8)["prepare"].memory
    assert lower == 350 * MIB + 512 * MIB


def test_memory_grows_with_the_states_of_a_rank():
    # 85 percent of the rows are training rows, and four ranks share them.
    small, large = (plans(rows=rows)["train"].memory for rows in (3400, 6800))
    assert large - small == 2 * 4 * 400 * 4 * 1000
    assert plans("reservoir.nodes=4000")["search"].memory > plans()["search"].memory


def test_states_beyond_the_memory_go_to_disk_or_are_not_stored():
    states, samples = 4 * 400 * 4 * 1000, 4 * 64 * 1000
    kept = plans("states.memory_mib=7", rows=3400)["train"]
    assert (kept.memory - PROCESS_BYTES, kept.disk) == (2 * states, 0)
    spilled = plans("states.memory_mib=6", rows=3400)["train"]
    assert (spilled.memory - PROCESS_BYTES, spilled.disk) == (0, states)
    recomputed = plans("states.memory_mib=6", "states.disk_mib=6", rows=3400)["train"]
    assert (recomputed.memory - PROCESS_BYTES, recomputed.disk) == (2 * samples, 0)


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        (["reservoir.reduction=all", "reservoir.sequence=rows"], 8 * 400),
        (["reservoir.kind=none", "reservoir.sequence=rows"], 64),
        (["extractor.kind=convolution", "search.generations=0"], 64),
        (["states.precision=float16"], 4 * 400 / 2),
        (["extractor.kind=dictionary", "extractor.pool=2", *NO_STATES], 2 * 2 * 2 * 256),
    ],
)
def test_stored_values_per_sample(settings, values):
    assert plans(*settings, rows=3400)["train"].memory == PROCESS_BYTES + 2 * 4 * values * 1000


def test_the_memory_of_a_search_counts_the_features_that_candidates_read():
    dictionary = ["reservoir.states=2", "extractor.kind=dictionary", "extractor.pool=2", "search.train_rows=1000"]
    fewer, more = (plans(*dictionary, f"extractor.atoms={atoms}")["search"].memory for atoms in (64, 1064))
    rows = 1000 + load_config("digits").search.validation_rows
    assert more - fewer > 4 * rows * 2 * 2 * 2 * 1000


def test_the_lines_for_the_site_file_have_a_margin():
    # The memory of the process has no margin; data and time have one.
    line = StagePlan("search", 3600.0, 800 * MIB, Resources(16, 2, "04:00:00")).option_line()
    assert line == "SEARCH_JOB=(--ntasks=16 --cpus-per-task=2 --mem-per-cpu=500M --time=125)"


def test_a_finished_run_is_used(tmp_path, monkeypatch):
    config = load_config("digits", [*QUICK, "training.epochs=2"])
    run(config, tmp_path / "run")
    monkeypatch.setattr("shutil.which", lambda name: None)
    text = format_plan(config, RunDirectory(tmp_path / "run"))
    assert "without Slurm here" in text
    assert f"measured: the run in {tmp_path / 'run'}" in text
    assert re.search(r"^1230 training rows", text, re.MULTILINE)


def test_a_calibration_does_a_part_of_the_work_and_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("rcdp_hpc.cluster.plan.CALIBRATION_ROWS", 600)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = format_plan(load_config("digits", QUICK))
    assert "a calibration on 33% of the samples" in text
    (rows,) = re.findall(r"^(\d+) training rows", text, re.MULTILINE)
    assert math.isclose(int(rows), 1230, rel_tol=0.35)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_lines_for_each_stage():
    done = run_ranks(0, rcdp("plan", "digits", *(part for pair in QUICK for part in ("--set", pair))), timeout=120)
    assert done.returncode == 0, done.stdout
    for name in ("PREPARE_JOB=(", "SEARCH_JOB=(", "TRAIN_JOB=(", "ALL_JOB=("):
        assert done.stdout.count(name) == 1
    refused = run_ranks(0, rcdp("plan"), timeout=60)
    assert refused.returncode == 2
    assert "needs CONFIG" in refused.stdout
