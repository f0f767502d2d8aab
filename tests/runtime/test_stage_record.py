"""The settings of a stage are recorded, and differences at a later start are reported or refused."""

import logging

import pytest

from rcdp_hpc.cli.status import describe_run
from rcdp_hpc.config import load_config, with_settings
from rcdp_hpc.deploy.reading import model_and_reading
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.pipeline import stages
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import machines_to_record, record_settings, refuse_changed_settings, settings_of
from rcdp_hpc.search.records.best import Best, write_best

HERE = {"processor": "A", "capability": "AVX512", "ranks": 1}
THERE = {**HERE, "capability": "AVX2"}
DIGITS = load_config("digits", ["reservoir.kernel=dense-fp32", "search.generations=0"])


def changed(**settings):
    return with_settings(DIGITS, {key.replace("__", "."): value for key, value in settings.items()}, "of the test")


@pytest.fixture
def run(tmp_path):
    """A run directory whose stages are done."""
    run = RunDirectory(tmp_path / "run")
    run.write_config(DIGITS)
    for stage in ("prepare", "train", "evaluate"):
        run.record_state(stage, "done", seconds=1.0, settings=settings_of(stage, DIGITS), machines=[HERE])
    run.train.mkdir()
    (run.train / "last.pt").touch()
    return run


@pytest.fixture
def starts(run, monkeypatch):
    """Start a stage of the run with work that fails or returns."""

    def start(stage, config, error=None, restart=False):
        def work(*arguments, **options):
            if error is not None:
                raise error
            return {"accuracy": 0.5}

        monkeypatch.setitem(stages._WORK, stage, work)
        return stages.run_stages([stage], config, run.path, restart=restart)

    return start


def test_an_evaluation_with_other_settings_than_the_training_is_refused_and_changes_nothing(run, starts):
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.suffix in (".toml", ".json")}
    with pytest.raises(InputError, match=r"model\.pt was trained with other settings: reservoir\.nodes \(400 -> 7\)"):
        starts("evaluate", changed(reservoir__nodes=7))
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_evaluation_records_no_settings_of_other_stages(run, starts):
    before = run.config_file.read_bytes()
    starts("evaluate", changed(training__epochs=9, search__population=5))
    assert run.config_file.read_bytes() == before


def test_a_refused_start_leaves_a_stage_done(run, starts):
    before = run.state("train")
    with pytest.raises(InputError):
        starts("train", DIGITS, InputError("made with other settings. Set them back."))
    after = run.state("train")
    assert after.pop("attempt") == {"status": "failed", "reason": "made with other settings. Set them back."}
    assert after == before
    starts("train", DIGITS)
    assert "attempt" not in run.state("train")
    assert "earlier" not in run.state("train")


def test_a_refused_start_leaves_a_stage_stopped(run, starts):
    run.record_state("train", "stopped", reason="stopped by SIGUSR1")
    with pytest.raises(InputError):
        starts("train", DIGITS, InputError("no"))
    assert run.state("train")["status"] == "stopped"


@pytest.mark.parametrize(("stage", "status"), [("train", "failed"), ("evaluate", "done"), ("prepare", "done")])
def test_only_a_resumed_stage_can_change_its_status_on_failure(stage, status, run, starts):
    with pytest.raises(StageFailedError):
        starts(stage, DIGITS, StageFailedError("no space left"))
    assert run.state(stage)["status"] == status


def test_a_stage_that_was_never_done_fails(run, starts):
    with pytest.raises(InputError):
        starts("search", DIGITS, InputError("no"))
    assert run.state("search")["status"] == "failed"


def test_a_stage_records_its_sections_and_those_of_later_stages(run):
    new = changed(data__stage_in=True, reservoir__nodes=7, search__population=5, training__epochs=9)
    record_settings(run, "prepare", new)
    assert run.config().data.stage_in
    assert run.config().search.population == 5  # no search has started
    assert (run.config().reservoir.nodes, run.config().training.epochs) == (400, DIGITS.training.epochs)
    record_settings(run, "train", new)
    assert (run.config().reservoir.nodes, run.config().training.epochs) == (7, 9)


def test_changed_settings_are_named_when_a_stage_continues(run, starts, caplog):
    with caplog.at_level(logging.INFO):
        starts("train", changed(training__epochs=9))
    assert f"training.epochs ({DIGITS.training.epochs} -> 9)" in caplog.text
    assert run.state("train")["settings"]["training"]["epochs"] == 9


def test_a_winner_of_other_settings_is_reported(run, starts, caplog):
    searched = changed(search__generations=1)
    run.record_state("search", "done", seconds=1.0, settings=settings_of("search", searched))
    write_best(run.best_candidate, Best({"density": 0.1}, 1.0, 0.1, 0.9, 0, 0, 4, 1.0))
    starts("train", changed(search__generations=1, reservoir__leak=0.5))
    assert "the search was done with other settings: reservoir.leak" in caplog.text


def test_paths_of_matrices_are_not_compared(run):
    config = changed(reservoir__matrices="/elsewhere/matrices.npz")
    refuse_changed_settings(run, config)


def test_resuming_on_another_kind_of_machine_is_reported_with_both_names(run, caplog):
    run.record_state("train", "stopped")
    found = machines_to_record(run, "train", DIGITS, [THERE])
    assert found == {"machines": [THERE], "earlier_machines": [HERE]}
    assert "capability AVX512 -> AVX2" in caplog.text
    with pytest.raises(InputError, match=r"capability AVX512 -> AVX2.*same_processor"):
        machines_to_record(run, "train", changed(run__same_processor="refuse"), [THERE])


def test_machines_do_not_matter_if_nothing_is_resumed(run, caplog):
    refuse = changed(run__same_processor="refuse")
    assert machines_to_record(run, "train", refuse, [THERE]) == {}  # done, so nothing is computed
    assert machines_to_record(run, "evaluate", refuse, [THERE])["earlier_machines"] is None
    (run.train / "last.pt").unlink()
    run.record_state("train", "failed")
    assert machines_to_record(run, "train", refuse, [THERE])["earlier_machines"] is None
    assert not caplog.text


def test_a_state_has_the_machine_that_the_stage_ran_on(run, starts):
    starts("evaluate", DIGITS)
    (machine,) = run.state("evaluate")["machines"]
    assert machine["ranks"] == 1
    assert {"processor", "capability", "torch", "numpy"} <= set(machine)


def test_edited_settings_are_named_by_status_and_when_a_stage_continues(run, starts, caplog):
    run.write_config(changed(training__epochs=9, reservoir__nodes=7))
    assert "config.toml changed since stage train used it: reservoir.nodes (400 -> 7)" in describe_run(run)
    run.write_config(changed(training__epochs=9))
    starts("train", run.config())
    assert f"{run.config_file} was changed since stage train used it: training.epochs" in caplog.text
    assert "changed since" not in describe_run(run)
    run.config_file.unlink()
    assert "config.toml is missing" in describe_run(run)


def test_edited_settings_are_named_when_a_stage_starts_over(run, starts, caplog):
    starts("train", DIGITS, restart=True)
    assert "was changed since" not in caplog.text
    run.record_state("train", "done", settings=settings_of("train", DIGITS))
    run.write_config(changed(training__epochs=9))
    starts("train", run.config(), restart=True)
    assert f"{run.config_file} was changed since stage train used it: " in caplog.text
    assert "The stage starts over with the changed values" in caplog.text


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_search_that_edited_settings_leave_out_is_named(run, starts, caplog, stage):
    starts(stage, DIGITS)
    assert "left out" not in caplog.text
    run.record_state("search", "stopped", settings=settings_of("search", changed(search__generations=4)))
    starts(stage, DIGITS)
    assert f"{run.search} has a search that the present settings do not use: search.generations (4 -> 0)" in caplog.text
    assert str(run.config_file) in caplog.text


def test_prediction_names_edited_settings_of_reading_samples(run, caplog):
    assert model_and_reading(run.path)[1] == DIGITS.data
    assert not caplog.text
    run.write_config(changed(data__x_name="samples"))
    assert model_and_reading(run.path)[1].x_name == "samples"
    assert "data.x_name (x -> samples)" in caplog.text
    run.write_config(changed(data__image_bits=8))
    with pytest.raises(InputError, match=r"data\.image_bits \(16 -> 8\)"):
        model_and_reading(run.path)


def test_a_configuration_that_was_removed_is_written_again_by_an_evaluation_of_the_same_settings(run, starts):
    run.config_file.unlink()
    with pytest.raises(InputError, match=r"reservoir\.nodes"):
        starts("evaluate", changed(reservoir__nodes=7))
    assert not run.config_file.exists()
    starts("evaluate", DIGITS)
    assert run.config() == DIGITS
