"""Whole comparisons with cheap methods: results, failures, resumes, refusals."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

import rcdp_hpc
from rcdp_hpc.cli.commands import main
from rcdp_hpc.cli.status import describe
from rcdp_hpc.comparison import checks
from rcdp_hpc.comparison import methods as package
from rcdp_hpc.comparison.results import FILE, Comparison, read_comparison, read_timings
from rcdp_hpc.config import load_config
from rcdp_hpc.config.choices.choice import ChoiceTable
from rcdp_hpc.config.choices.methods import MethodChoice
from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.rundir import RunDirectory

CHEAP = "comparison.cheap_methods:"
SMALL = (
    "data.class_keep_fractions=[]", "data.max_samples=300", "data.balance=none", "data.shards=1",
    "search.population=2", "search.generations=1", "run.progress=false",
)  # fmt: skip


def settings(methods: str, *more: str):
    named = ",".join(CHEAP + name if name[0].isupper() else name for name in methods.split(","))
    return load_config("digits", [*SMALL, f"compare.methods={named}", *more])


def compared(out, methods: str, *more: str, **options) -> Comparison:
    return rcdp_hpc.compare(settings(methods, *more), out, **options)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Three methods over two seeds, of which one failed."""
    out = tmp_path_factory.mktemp("compare") / "seeds"
    with pytest.raises(StageFailedError) as error:
        compared(out, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2")
    return out, str(error.value)


def test_a_failed_cell_is_shown_and_the_others_are_kept(seeds):
    out, message = seeds
    name = "comparison.cheap_methods.FailsWithSeed2-seed-2"
    assert f"1 of 6 cells failed: {name}: seed 2 is not to its taste" in message
    found = read_comparison(out)
    assert [cell.name for cell in found.failed] == [name]
    by_method = {one.method.partition(":")[2]: one for one in found.summaries}
    assert [(one.done, one.planned) for one in by_method.values()] == [(2, 2), (2, 2), (1, 2)]
    assert by_method["FailsWithSeed2"].failed == [name]
    # A mean of one cell has no deviation, and no test.
    assert by_method["FailsWithSeed2"].deviation == {}
    assert [(test.test, test.pairs) for test in found.tests] == [("paired t-test", 2), ("", 1)]
    table = (out / "tables.md").read_text()
    assert "| 1 of 2 |" in table
    assert f"{name} failed: seed 2 is not to its taste." in table
    assert "failed" in (out / "cells.csv").read_text()


def test_means_and_measures_are_those_of_the_cells(seeds):
    found = read_comparison(seeds[0])
    cells = [cell for cell in found.cells if cell.method.endswith(":Means")]
    one = found.summaries[0]
    values = [cell.measures["accuracy"] for cell in cells]
    assert one.mean["accuracy"] == pytest.approx(sum(values) / 2)
    assert one.deviation["accuracy"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    recall = [value for value in cells[0].test["recall"] if value is not None]
    assert cells[0].measures["balanced_accuracy"] == pytest.approx(sum(recall) / len(recall))
    assert values[0] != values[1]  # each seed has a split of its own
    timings = read_timings(seeds[0])
    assert timings.cells[cells[0].name].seconds == {"train": 0.1, "evaluate": 0.2}
    assert set(timings.data) == {"seed-1", "seed-2"}


def test_data_are_prepared_once_and_linked(seeds):
    out, _ = seeds
    assert sorted(path.name for path in (out / "data").iterdir()) == ["seed-1", "seed-2"]
    shards = [path / "shards" for path in (out / "cells").iterdir()]
    assert all(path.is_symlink() and (path / "index.json").exists() for path in shards)


def test_a_failed_cell_is_tried_again_and_the_others_are_not(seeds, tmp_path, monkeypatch):
    out = tmp_path / "again"
    shutil.copytree(seeds[0], out, symlinks=True)
    before = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/cell.json")}
    monkeypatch.setenv("MENDED", "1")
    found = compared(out, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2")
    assert not found.failed
    changed = {path.parent.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"comparison.cheap_methods.FailsWithSeed2-seed-2"}
    # The first method and the third are the same, so that their difference is 0.
    assert found.tests[1].p == 1.0


def test_the_same_comparison_gives_the_same_bytes_and_reads_back(seeds, tmp_path):
    with pytest.raises(StageFailedError):
        compared(tmp_path, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2")
    assert (tmp_path / FILE).read_bytes() == (seeds[0] / FILE).read_bytes()
    found = read_comparison(tmp_path)
    assert Comparison.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_one_seed_is_tested_by_its_samples(tmp_path):
    found = compared(tmp_path, "Means,NoisyMeans")
    (test,) = found.tests
    assert test.test == "exact test of McNemar"
    assert test.pairs > 0
    right = [cell.measures["accuracy"] for cell in found.cells]
    assert test.difference == pytest.approx(right[0] - right[1])
    assert "1 seed: no deviation" in (tmp_path / "tables.md").read_text()


def test_folds(tmp_path):
    found = compared(tmp_path, "Means,NoisyMeans", "compare.folds=3")
    assert [cell.fold for cell in found.cells] == [1, 1, 2, 2, 3, 3]
    assert found.tests[0].test == "corrected resampled t-test"
    # Every sample is tested once.
    tested = [cell.test["samples"] for cell in found.cells if cell.method.endswith(":Means")]
    assert sum(tested) == 300


def test_equal_time_is_a_second_set_of_cells(tmp_path):
    # The readout of the second method is solved, so that its training has no limit.
    found = compared(tmp_path, "Means,ridge", "compare.seconds=30")
    assert [cell.budget for cell in found.cells] == ["evaluations"] * 2 + ["seconds"] * 2
    assert found.cells[1].measures == found.cells[3].measures
    text = (tmp_path / "tables.md").read_text()
    assert "## Equal candidate evaluations: 2 x 1" in text
    assert "## Equal time: 30 s" in text


def test_one_extractor_is_trained_for_all_methods_of_its_arm(tmp_path):
    settings = ("compare.arms=rows,extractor", "training.epochs=1", "readout.hidden=8", "readout.outputs=8")
    found = compared(tmp_path, "ridge", *settings)
    rows, features = found.cells
    assert (rows.arm, features.arm) == ("rows", "extractor")
    assert rows.measures["parameters"] != features.measures["parameters"]
    assert set(read_timings(tmp_path).data["seed-1"]) == {"prepare", "extractor"}
    assert "extractor" in (tmp_path / "tables.md").read_text()
    # The model of the cell has the weights of the extractor, and is used without it.
    shutil.rmtree(tmp_path / "extractors")
    assert rcdp_hpc.load_model(tmp_path / "cells" / features.name).classes == found.data["classes"]


def test_a_defect_and_lack_of_memory_end_their_cell_only(tmp_path, caplog):
    with pytest.raises(StageFailedError, match="2 of 3 cells failed") as error:
        compared(tmp_path, "Crashes,OutOfMemory,Means")
    assert "KeyError: 'nothing'" in str(error.value)
    assert "out of memory (1 TiB)" in str(error.value)
    assert "Traceback" in caplog.text
    assert [cell.status for cell in read_comparison(tmp_path).cells] == ["failed", "failed", "done"]


def test_what_is_no_outcome_ends_its_cell_only(tmp_path):
    with pytest.raises(StageFailedError, match="2 of 4 cells failed") as error:
        compared(tmp_path, "Unfinished,Means", "compare.seeds=1,2")
    assert "Out of range float values" in str(error.value)
    assert "the method returned float, not an Outcome" in str(error.value)


def test_single_cells_complete_a_comparison(tmp_path, seeds):
    for number in (6, 2, 3, 4, 5):
        try:
            found = compared(tmp_path, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2", cell=number)
        except StageFailedError as error:
            assert number == 6, error  # noqa: PT017
            continue
        assert found is None
    # The last one writes the results; only its own failure is an error.
    assert compared(tmp_path, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2", cell=1) is not None
    assert (tmp_path / FILE).read_bytes() == (seeds[0] / FILE).read_bytes()
    with pytest.raises(InputError, match="between 1 and the number of cells"):
        compared(tmp_path, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2", cell=7)


def test_a_stop_keeps_the_cells_that_are_done(tmp_path):
    with pytest.raises(StoppedError, match="SIGTERM"):
        compared(tmp_path, "AsksToStop", "compare.seeds=1,2")
    signals.clear()
    assert [path.parent.name for path in tmp_path.glob("cells/*/cell.json")] == [
        "comparison.cheap_methods.AsksToStop-seed-1"
    ]
    found = compared(tmp_path, "AsksToStop", "compare.seeds=1,2")
    assert len(found.cells) == 2


def test_status_shows_the_cells(seeds, tmp_path):
    shown = describe(seeds[0])
    assert "comparison.cheap_methods.FailsWithSeed2-seed-2  failed: seed 2 is not to its taste." in shown
    assert "comparison.cheap_methods.Means-seed-1           done: test accuracy" in shown
    assert "equal candidate evaluations: 2 x 1" in shown
    assert f"try these cells again: rcdp compare --out {seeds[0]}" in shown
    assert "5 of 6 cells done, 1 failed" in describe(seeds[0].parent)
    assert compared(tmp_path, "Means,NoisyMeans", cell=2) is None
    shown = describe(tmp_path)
    assert "Means-seed-1       not started" in shown
    assert f"next: rcdp compare --out {tmp_path}" in shown


def test_a_restart_puts_everything_aside(tmp_path):
    compared(tmp_path, "Means")
    found = compared(tmp_path, "NoisyMeans", restart=True)
    assert [cell.method for cell in found.cells] == [f"{CHEAP}NoisyMeans"]
    (aside,) = tmp_path.glob("before-*")
    assert read_comparison(aside).methods[0].name == f"{CHEAP}Means"


# Refusals: nothing is computed.


def refused(out, message: str, methods: str, *more: str, **options) -> None:
    with pytest.raises(InputError, match=message):
        compared(out, methods, *more, **options)
    assert not (out / "cells").exists()
    assert not (out / "data").exists()


def test_methods_that_cannot_take_the_data_are_refused(tmp_path):
    refused(tmp_path, "OnlySounds cannot take these data: it needs sounds, not images", "Means,OnlySounds")
    refused(tmp_path, "trees cannot take these data: it takes data of the kind 'table'", "Means,trees")
    refused(tmp_path, "has no class Missing", "Missing")
    refused(tmp_path, "NoMethod' is not a class derived from", "NoMethod")


def test_a_method_that_reads_one_arm_only_is_compared_there(tmp_path, monkeypatch):
    def problem(name, config, facts):
        return "it reads the input" if name == "ga" and config.extractor.kind == "pretrained" else None

    monkeypatch.setattr(checks, "_problem", problem)
    config = load_config("digits", [*SMALL, "compare.methods=ga,mfo", "compare.arms=extractor,rows"])
    plan = checks.fitting_plan(config, checks.facts_of(config, RunDirectory(tmp_path), "seed-1", None))
    assert [cell.name for cell in plan.run_cells] == ["mfo-seed-1-extractor", "ga-seed-1", "mfo-seed-1"]
    assert [(one.method, one.arm) for one in plan.left_out] == [("ga", "extractor")]


def test_methods_are_left_out_of_the_default_list_only(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_problem", lambda name, config, facts: "too blue" if name != "mfo" else None)
    config = load_config("digits", SMALL)
    plan = checks.fitting_plan(config, checks.facts_of(config, RunDirectory(tmp_path), "seed-1", None))
    assert [cell.method for cell in plan.run_cells] == ["mfo"]
    assert {one.reason for one in plan.left_out} == {"too blue"}
    monkeypatch.setattr(checks, "_problem", lambda name, config, facts: "too blue")
    with pytest.raises(InputError, match="no method can take these data"):
        checks.fitting_plan(config, checks.facts_of(config, RunDirectory(tmp_path), "seed-1", None))


def test_a_missing_extra_is_named_with_its_command(tmp_path, monkeypatch):
    (tmp_path / "needy.py").write_text("import no_such_library\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    needy = MethodChoice("ridge", "", "rcdp_hpc.comparison.methods.needy:Needy", extra="compare")
    monkeypatch.setattr(checks, "METHODS", ChoiceTable("compare.methods", (needy,)))
    refused(tmp_path / "out", r"needs no_such_library, .*pip install 'rcdp_hpc\[compare\]'", "ridge")


def test_a_batch_of_more_rows_than_there_are_is_refused_and_may_be_changed(tmp_path):
    few = ("training.batch=500", "search.epochs=1", "training.epochs=1")
    with pytest.raises(InputError, match=r"ga-seed-1: a batch of 500 rows is more than the \d+ training rows"):
        compared(tmp_path, "ridge,ga", *few)
    assert not (tmp_path / "cells").exists()
    # Without a cell, the comparison may have other settings.
    assert compared(tmp_path, "ridge", *few).summaries[0].done == 1


def test_settings_that_no_comparison_can_have_are_refused(tmp_path):
    refused(tmp_path, "search.generations = 0", "Means", "search.generations=0")
    refused(tmp_path, "compare.folds=3 instead of data.folds", "Means", "data.folds=3", "data.fold=1")


def test_other_data_than_images_have_no_arm_with_an_extractor(tmp_path):
    generator = np.random.default_rng(1)
    config = {
        "compare": {"methods": [f"{CHEAP}Means"], "arms": ["extractor"]},
        "search": {"population": 2, "generations": 1},
    }
    with pytest.raises(InputError, match="the arm 'extractor' needs images"):
        rcdp_hpc.compare(config, tmp_path, data=(generator.random((60, 4)), [0, 1] * 30))


def test_a_comparison_is_not_continued_with_other_settings(seeds):
    out, _ = seeds
    before = (out / FILE).read_bytes()
    for change, message in (
        ("compare.seeds=1", r"compare\.seeds \(\[1, 2\] -> \[1\]\)"),
        ("compare.seeds=2,1,3", r"compare\.seeds \(\[1, 2\] -> \[2, 1, 3\]\)"),
        ("training.epochs=7", r"training\.epochs \(60 -> 7\)"),
    ):
        with pytest.raises(InputError, match=message):
            compared(out, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2", change)
    assert (out / FILE).read_bytes() == before


def test_further_seeds_are_added(seeds, tmp_path, monkeypatch):
    monkeypatch.setenv("MENDED", "1")
    compared(tmp_path, "Means,FailsWithSeed2")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/cell.json")}
    # A task of a job array must not take another cell than the array has under its number.
    with pytest.raises(InputError, match=r"compare\.seeds \(\[\] -> \[1, 2\]\)"):
        compared(tmp_path, "Means,FailsWithSeed2", "compare.seeds=1,2", cell=1)
    found = compared(tmp_path, "Means,FailsWithSeed2", "compare.seeds=1,2")
    assert [one.done for one in found.summaries] == [2, 2]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    at_once = tmp_path / "at_once"
    compared(at_once, "Means,FailsWithSeed2", "compare.seeds=1,2")
    assert (at_once / FILE).read_bytes() == (tmp_path / FILE).read_bytes()
    with pytest.raises(InputError, match="the comparison was begun with other settings"):
        compared(tmp_path, "Means,FailsWithSeed2")


def test_a_folder_has_one_comparison_and_no_run(seeds, tmp_path):
    out, _ = seeds
    with RunLock(RunDirectory(out).lock), pytest.raises(InputError, match="is in use by"):
        compared(out, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2")
    with RunLock(RunDirectory(out).lock), pytest.raises(InputError, match="works on all cells"):
        compared(out, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2", cell=1)
    busy = next((out / "cells").iterdir()) / "cell.lock"
    with RunLock(busy), pytest.raises(InputError, match="a job works on this cell"):
        compared(out, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2")
    with pytest.raises(InputError, match="is the folder of a comparison"):
        rcdp_hpc.prepare(settings("Means"), out)
    with pytest.raises(InputError, match="is the folder of a comparison"):
        rcdp_hpc.crossvalidate(settings("Means", "data.folds=2"), out)
    rcdp_hpc.prepare(settings("Means"), tmp_path)
    with pytest.raises(InputError, match="is the directory of a single run"):
        compared(tmp_path, "Means")


def test_damaged_results_are_found(seeds, tmp_path):
    out = tmp_path / "damaged"
    shutil.copytree(seeds[0], out, symlinks=True)
    path = out / FILE
    path.write_text(path.read_text().replace('"done": 2', '"done": 3'))
    with pytest.raises(DataDamagedError, match="checksum does not match"):
        read_comparison(out)
    with pytest.raises(InputError, match="no comparison has ended"):
        read_comparison(tmp_path)
    record = next(iter(sorted(out.glob("cells/*/cell.json"))))
    record.write_text("{}")
    with pytest.raises(DataDamagedError, match=r"cell\.json"):
        compared(out, "Means,NoisyMeans,FailsWithSeed2", "compare.seeds=1,2")


def test_arrays_of_a_program(tmp_path):
    generator = np.random.default_rng(1)
    y = [0, 1, 2] * 40
    x = generator.normal(size=(120, 5)) + [[label] for label in y]
    config = {
        "compare": {"methods": [f"{CHEAP}Means", f"{CHEAP}NoisyMeans"], "seeds": [1, 2]},
        "search": {"population": 2, "generations": 1}, "run": {"progress": False},
    }  # fmt: skip
    found = rcdp_hpc.compare(config, tmp_path, data=(x, y))
    assert found.data["kind"] == "table"
    assert [one.done for one in found.summaries] == [2, 2]


def test_the_command_line(tmp_path, capsys):
    words = ["compare", "digits", "--out", str(tmp_path), "--set", f"compare.methods=ridge,{CHEAP}Crashes"]
    words += [part for value in SMALL for part in ("--set", value)]
    assert main(words) == 1
    output = capsys.readouterr()
    assert "equal candidate evaluations: 2 x 1" in output.out
    assert "ridge-seed-1: test accuracy" in output.out
    # Lines of the stages are in the log of the cell.
    assert "readout solved by ridge" not in output.out
    assert "readout solved by ridge" in (tmp_path / "cells/ridge-seed-1/log.jsonl").read_text()
    assert "1 of 2 cells failed" in output.err
    assert main(["compare", "--out", str(tmp_path), "--set", "compare.seeds=1,1"]) == 2
    assert main(["compare", "--out", str(tmp_path), "--full"]) == 2
    assert "search.population (2 -> 50)" in capsys.readouterr().err
    assert os.path.exists(tmp_path / "config.toml")
