"""Files of a run directory."""

import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.runtime.rundir import RunDirectory


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_config(load_config("digits", ["search.generations=10"]))
    return run


def test_an_unchanged_configuration_is_not_written_again(run):
    before = run.config_file.stat().st_ino
    run.write_config(load_config("digits", ["search.generations=10"]))
    assert run.config_file.stat().st_ino == before
    run.write_config(load_config("digits", ["search.generations=20"]))
    assert run.config().search.generations == 20


def test_keys_that_the_data_determine_are_written(run):
    waiting = load_config("series", ["data.path=mine.ts"])
    run.write_config(waiting)
    assert run.config().chosen is not None
    run.write_config(waiting.with_chosen(None))
    assert run.config().chosen is None


def test_a_damaged_file_is_written_again(run):
    run.config_file.write_text("[search\n")
    run.write_config(load_config("digits"))
    assert run.config() == load_config("digits")


def test_a_configuration_of_the_user_is_kept(tmp_path, caplog):
    run, text = RunDirectory(tmp_path), "# mine\n[run]\nseed = 7\n"
    run.config_file.write_text(text)
    for _ in range(2):  # a refused start is repeated
        run.preserve_user_config()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["config.toml", "config.toml.before-1"]
    assert (tmp_path / "config.toml.before-1").read_text() == text
    assert caplog.text.count("Your file of this name is kept as") == 1


def test_a_configuration_that_a_run_wrote_needs_no_copy(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_config(load_config("digits"))
    run.preserve_user_config()
    run.config_file.write_text("[run]\nseed = 7\n")
    run.record_state("prepare", "running")
    run.preserve_user_config()  # edited later
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "state"]
