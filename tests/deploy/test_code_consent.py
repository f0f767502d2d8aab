"""Code that a file names runs only with consent: files of others, and files of the owner."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys

import numpy as np
import pytest

from rcdp_hpc.cli.commands import main
from rcdp_hpc.model import checkpoint
from rcdp_hpc.runtime import code_consent

NETWORKS = """
from pathlib import Path

from torch import nn

Path({marker!r}).touch()


class Mine(nn.Module):
    def __init__(self, steps, features, classes):
        super().__init__()
        self.scores = nn.Linear(features, classes)

    def forward(self, sequences):
        return self.scores(sequences[:, -1])
"""
SETTINGS = (
    "search.generations=0", "data.class_keep_fractions=[]", "reservoir.nodes=20", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "training.epochs=1", "training.threads=1", "readout.kind=nets_of_mine:Mine",
    "training.baseline=false",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _modules_as_they_were(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    sys.modules.pop("nets_of_mine", None)


@pytest.fixture
def fresh(monkeypatch):
    """Return a function that simulates a new process in another folder."""
    path = list(sys.path)

    def start(folder):
        sys.modules.pop("nets_of_mine", None)
        monkeypatch.setattr(sys, "path", list(path))
        monkeypatch.chdir(folder)
        importlib.invalidate_caches()

    return start


@pytest.fixture
def project(tmp_path, fresh):
    """A folder with a module, a configuration that names its class, and a training with it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "nets_of_mine.py").write_text(NETWORKS.format(marker=str(tmp_path / "ran")))
    fresh(folder)
    for command in ("prepare", "train"):
        wishes = [part for value in SETTINGS for part in ("--set", value)]
        assert main([command, "digits", "--out", "run", "--quiet", *wishes]) == 0
    np.savez(folder / "new.npz", x=np.full((3, 8, 8), 8.0))
    (tmp_path / "ran").unlink()
    return folder


def predict(project, *more) -> int:
    output = str(project / "labels.csv")
    return main(["predict", str(project / "run"), str(project / "new.npz"), "--to", output, "--quiet", *more])


def somebody_else(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-of-another"))


def test_the_owner_needs_no_option_to_resume_evaluate_and_predict(project, fresh, tmp_path):
    fresh(project)
    assert main(["train", "--out", "run", "--set", "training.epochs=2", "--quiet"]) == 0
    fresh(project)
    assert main(["evaluate", "--out", "run", "--quiet"]) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fresh(elsewhere)
    assert predict(project) == 0
    assert (tmp_path / "ran").exists()


def test_a_changed_module_needs_consent_again(project, fresh, tmp_path, capfd):
    with open(project / "nets_of_mine.py", "a") as file:
        file.write("# another\n")
    for command in (["train", "--out", "run", "--set", "training.epochs=2"], ["evaluate", "--out", "run"]):
        fresh(project)
        assert main([*command, "--quiet"]) == 2
        assert "has changed since a configuration of yours named it" in capfd.readouterr().err
    fresh(project)
    assert predict(project) == 2
    assert not (tmp_path / "ran").exists()
    fresh(project)
    # The command names the code again.
    wish = "readout.kind=nets_of_mine:Mine"
    assert main(["train", "--out", "run", "--set", "training.epochs=2", "--set", wish, "--quiet"]) == 0


def test_code_of_a_foreign_run_is_not_imported(project, fresh, monkeypatch, tmp_path, capfd):
    somebody_else(monkeypatch, tmp_path)
    config = str(project / "run/config.toml")
    commands = (
        ["train", "--out", "run"], ["evaluate", "--out", "run"], ["run", "--out", "run"], ["search", "--out", "run"],
        ["crossvalidate", "--out", "run"], ["train", config, "--out", "mine"],
    )  # fmt: skip
    for command in commands:
        fresh(project)
        assert main([*command, "--quiet"]) == 2, command
        assert "--allow-code" in capfd.readouterr().err
    fresh(project)
    assert predict(project) == 2
    message = capfd.readouterr().err
    assert "readout.kind = 'nets_of_mine:Mine'" in message
    assert "--allow-code" in message
    # --allow-code does not add the working directory.
    fresh(project)
    assert predict(project, "--allow-code") == 2
    assert "looked for in PYTHONPATH" in capfd.readouterr().err
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "state-of-another/rcdp_hpc/own-code.json").exists()


def test_allowed_code_runs_and_is_not_recorded(project, fresh, monkeypatch, tmp_path):
    somebody_else(monkeypatch, tmp_path)
    fresh(tmp_path)
    sys.path.append(str(project))
    assert predict(project, "--allow-code") == 0
    fresh(project)
    assert main(["evaluate", "--out", "run", "--allow-code", "--quiet"]) == 0
    fresh(project)
    assert main(["train", "--out", "run", "--quiet"]) == 2


def test_a_copy_of_a_run_with_other_code_next_to_it_needs_consent(project, fresh, tmp_path):
    other = shutil.copytree(project, tmp_path / "other")
    with open(other / "nets_of_mine.py", "a") as file:
        file.write("# another\n")
    fresh(other)
    assert main(["train", "--out", "run", "--quiet"]) == 2
    assert not (tmp_path / "ran").exists()
    # Model and class belong to the owner, so the class in the owner's folder is imported.
    fresh(other)
    assert predict(other) == 0
    assert sys.modules["nets_of_mine"].__file__ == str(project / "nets_of_mine.py")


def test_a_model_that_names_any_callable_is_refused(project, fresh, monkeypatch, tmp_path, capfd):
    content = checkpoint.load(project / "run/train/model.pt")
    del content["format"]
    settings = json.loads(content["settings"])
    for name in ("os:system", "builtins:exec", "subprocess:Popen", "nets_of_mine.sub:Mine"):
        settings["readout"]["kind"] = name
        checkpoint.save(project / "run/train/model.pt", {**content, "settings": json.dumps(settings)})
        fresh(tmp_path)
        assert predict(project) == 2
        assert repr(name) in capfd.readouterr().err


def test_a_record_that_others_may_write_is_not_used(project, fresh, capfd):
    record = code_consent.record_file()
    assert oct(record.stat().st_mode & 0o777) == "0o600"
    content = record.read_bytes()
    record.chmod(0o622)
    fresh(project)
    assert predict(project) == 2
    assert "chmod 600" in capfd.readouterr().err
    record.chmod(0o600)
    for damaged in (b"", b"{}", b"[1]", b"[{}]", b"\xff", b"[" * 100_000, content[:-20]):
        record.write_bytes(damaged)
        fresh(project)
        assert predict(project) == 2
    record.write_bytes(content)
    fresh(project)
    assert predict(project) == 0


def test_without_a_writable_home_the_owner_needs_the_option(project, fresh, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    fresh(project)
    wish = "readout.kind=nets_of_mine:Mine"
    assert main(["train", "--out", "run", "--set", "training.epochs=2", "--set", wish, "--quiet"]) == 0


def test_packages_are_found_without_running_them(tmp_path):
    package = tmp_path / "whole" / "part"
    package.mkdir(parents=True)
    for file in (package.parent / "__init__.py", package / "__init__.py", package / "nets.py"):
        file.write_text("raise SystemExit('run')\n")
    found = code_consent.find_module("whole.part.nets", [str(tmp_path)])
    assert [os.path.relpath(file, tmp_path) for file in found.files] == [
        "whole/__init__.py", "whole/part/__init__.py", "whole/part/nets.py",
    ]  # fmt: skip
    assert found.folder == str(tmp_path)
    (package / "__init__.py").write_text("")
    assert code_consent.find_module("whole.part.nets", [str(tmp_path)]) != found
    assert code_consent.find_module("whole.part", [str(tmp_path)]).folder == str(tmp_path)
    assert code_consent.find_module("whole.missing", [str(tmp_path)]) is None
    assert code_consent.find_module("..", [str(tmp_path)]) is None
