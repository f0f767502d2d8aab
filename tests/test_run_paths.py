"""Paths on the command line and in calls from Python: empty, files, dangling links, names that are not UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rcdp_hpc.cli import main
from rcdp_hpc.cluster.scripts import check_name
from rcdp_hpc.config import Config, load_config
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import prepare
from rcdp_hpc.pipeline.trial import trial_folder
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.rundir import RunDirectory

# Commands with a path argument in the place of "%".
ARGUMENTS = {
    **{f"{stage} --out": f"{stage} digits --out %" for stage in ("run", "prepare", "search", "train", "evaluate")},
    "crossvalidate --out": "crossvalidate digits --out %",
    "submit --out": "submit digits --dry-run --out %",
    "plan --out": "plan digits --out %",
    "report --out": "search --report --out %",
    "trial --out": "run digits --trial --out %",
    "status": "status %",
    "verify": "verify %",
    "inspect": "inspect %",
    "predict RUN": "predict % samples.npz --to labels.csv",
    "predict SAMPLES": "predict run % --to labels.csv",
    "predict --to": "predict run samples.npz --to %",
    "init": "init %",
    "init --to": "init digits.csv --to %",
    "inspect --picture": "inspect run --picture %",
    "submit --site": "submit digits --out new --dry-run --site %",
    "run CONFIG": "run % --out new",
    "config": "config %",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a file, a dangling link and a link to itself."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    Path("loop").symlink_to("loop")
    return tmp_path


def refused(words, path, capfd):
    """Run a command with a path that is refused; return its message."""
    before = sorted(os.listdir())
    try:
        code = main([path if word == "%" else word for word in words.split()])
    except SystemExit as error:
        code = error.code
    err = capfd.readouterr().err
    assert (code, err.count("rcdp: error")) == (2, 1), err
    assert "Traceback" not in err
    assert sorted(os.listdir()) == before
    return err


@pytest.mark.parametrize("words", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("path", ["", " ", "\t"])
def test_an_empty_path_is_never_the_working_directory(words, path, capfd):
    assert "the path is empty; check that all variables in it are set" in refused(words, path, capfd)


@pytest.mark.parametrize("words", [words for name, words in ARGUMENTS.items()])
def test_names_that_the_system_refuses(words, capfd):
    refused(words, "x" * 300, capfd)


@pytest.mark.parametrize("words", [words for name, words in ARGUMENTS.items() if "--out" in name])
@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("file", "a file; expected a folder"),
        ("file/run", "is a file, not a folder"),
        ("dangling", "a broken link"),
        ("dangling/run", "a broken link"),
        ("loop", "Too many levels of symbolic links"),
        ("/", "the root of the file system"),
        ("/tmp/..", "the root of the file system"),
    ],
)
def test_a_run_directory_that_cannot_be_one(words, path, match, capfd):
    assert match in refused(words, path, capfd)


@pytest.mark.parametrize("path", ["file", "dangling", "loop", "file/run", os.fsdecode(b"caf\xe9")])
@pytest.mark.parametrize("command", ["status", "verify", "inspect"])
def test_reading_a_missing_run(command, path, capfd):
    refused(f"{command} %", path, capfd)


@pytest.mark.parametrize("path", ["", " "])
def test_paths_in_python_calls(path):
    with pytest.raises(InputError, match="empty path"):
        prepare(load_config("digits"), path)
    with pytest.raises(InputError, match="empty path"):
        absolute_path(path)
    assert sorted(os.listdir()) == ["dangling", "file", "loop"]


def test_an_empty_site_in_the_environment_is_the_default(monkeypatch, capfd):
    monkeypatch.setenv("RCDP_SITE", " ")
    assert main(["submit", "digits", "--out", "new", "--dry-run"]) == 0


def test_paths_that_a_configuration_cannot_record_are_refused():
    config = Config.model_validate({"data": {"source": "csv", "path": os.fsdecode(b"caf\xe9.csv")}})
    with pytest.raises(InputError, match=r"path = .*not UTF-8"):
        with_absolute_paths(config)


def test_names_that_are_not_utf8_are_refused_on_slurm():
    with pytest.raises(InputError, match="not UTF-8"):
        check_name(Path(os.fsdecode(b"caf\xe9")))


def test_any_other_name_of_a_run_works(folder):
    """A run directory does not record its path, so its name may have any bytes."""
    out = folder / os.fsdecode(b"caf\xe9 $x\n'")
    prepare(load_config("digits", ["data.max_samples=200", "data.shards=1"]), out)
    assert RunDirectory(out).state("prepare")["status"] == "done"


def test_the_trial_of_the_working_directory_is_next_to_it(folder):
    Path("sub").mkdir()
    os.chdir("sub")
    assert trial_folder(Path()).resolve() == folder / "sub-trial"
    assert trial_folder(Path("..")).resolve() == folder.with_name(folder.name + "-trial")


def test_a_running_trial_is_not_removed(folder):
    run = RunDirectory(folder / "run-trial")
    run.path.mkdir()
    run.write_config(load_config("digits", ["data.max_samples=100"]))
    (run.path / "shards").mkdir()
    with RunLock(run.lock), pytest.raises(InputError, match="in use by"):
        trial_folder(folder / "run")
    assert run.shards.exists()
    trial_folder(folder / "run")
    assert list(run.path.iterdir()) == []


@pytest.mark.parametrize("output", ["samples.npz", "link.npz", "hard.npz", "../{folder}/samples.npz"])
def test_predictions_never_replace_the_samples(folder, output):
    samples = folder / "samples.npz"
    samples.write_bytes(b"samples")
    Path("link.npz").symlink_to(samples)
    os.link(samples, "hard.npz")
    with pytest.raises(InputError, match="holds the samples, which would be overwritten"):
        predict(folder / "model.pt", samples, Path(output.format(folder=folder.name)))
    assert samples.read_bytes() == b"samples"
