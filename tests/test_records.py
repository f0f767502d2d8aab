"""Records of a run that were altered, or are something else altogether: one message and exit code 3, whoever reads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data.conftest import make_config

from rcdp_hpc.cli import main
from rcdp_hpc.cluster.slurm import Submission, record_submission
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.runtime.digests import append_sealed, sealed, write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.records.best import Best, read_best, write_best

FORMS = {
    "null": b"null", "list": b"[]", "object": b"{}", "number": b"7", "NaN": b"NaN", "nested": b"[" * 100_000,
    "digits": b"1" * 5000, "repeated": b'{"a": 1, "a": 2}', "bytes": b"\xff\xfe\x00{\n", "text": b'"text"\n',
    "of another kind": json.dumps(sealed({"stage": [], "status": 1, "format": "rcdp-shards", "epoch": "x"})).encode(),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run directory with records that are read without a model."""
    folder = tmp_path_factory.mktemp("records")
    x = np.random.default_rng(0).random((40, 3))
    np.savez(folder / "x.npz", x=x, y=np.arange(40) % 2)
    config = make_config(folder / "x.npz", shards=1)
    run = RunDirectory(folder / "run")
    run.write_config(config)
    prepare_shards(config, run.shards)
    for stage in ("prepare", "search", "train", "evaluate"):
        run.record_state(stage, "done", seconds=1.0, result={})
    run.train.mkdir()
    append_sealed(run.train / "class_counts.jsonl", {"epoch": 0, "counts": [[10, 10], [10, 10]]})
    remember_jobs(run)
    return run.path


def remember_jobs(run: RunDirectory) -> None:
    run.jobs.mkdir()
    write_sealed(run.submission, {"folder": "/work", "words": ["rcdp", "submit"]})
    record_submission(run.submitted, Submission("train", "17"))


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


READERS = [
    ("shards/index.json", "verify"), ("shards/index.json", "inspect"), ("state/prepare.json", "status"),
    ("state/train.json", "status"), ("jobs/submitted.jsonl", "status"), ("train/class_counts.jsonl", "inspect"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "command"), READERS)
def test_other_forms_of_a_record_give_one_message(name, command, copy, capsys):
    assert main([command, str(copy)]) == 0
    capsys.readouterr()
    for form, content in FORMS.items():
        if name.endswith("jsonl") and form == "of another kind":
            continue  # a sound line
        (copy / name).write_bytes(content)
        assert main([command, str(copy)]) == 3, form
        told = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(told) == 1, form
        assert Path(name).name in told[0], form


@pytest.mark.parametrize(("name", "command"), [reader for reader in READERS if "jsonl" not in reader[0]])
def test_every_number_and_every_word_of_a_record_counts(name, command, copy, capsys):
    path = copy / name
    text = path.read_text()
    generator = np.random.default_rng(0)
    places = [place for place, character in enumerate(text) if character.isalnum()]
    for place in generator.choice(places, 25, replace=False):
        other = "7" if text[place] != "7" else "8"
        changed = text[:place] + other + text[place + 1 :]
        # A 17th digit may be beyond what a number of 64 bits holds.
        if name.endswith("json") and _parsed(changed) == json.loads(text):
            continue
        path.write_text(changed)
        assert main([command, str(copy)]) == 3, (place, text[place - 20 : place + 20])


def _parsed(text: str) -> object:
    """Return the value of a JSON text; None if it is damaged."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_an_altered_index_is_the_first_that_verification_finds(copy, capsys):
    path = copy / "shards/index.json"
    path.write_text(path.read_text().replace('"scale": 1.0', '"scale": 2.0', 1))
    assert main(["verify", str(copy)]) == 3
    error = capsys.readouterr().err
    assert "index.json: its checksum does not match its content" in error
    assert "prepare again with --restart" in error


BEST = Best({"density": 0.1, "leak": 0.7}, 1.5, 0.1, 0.9, 3, 4, 40, 12.5)


def test_a_winner_that_was_altered_is_refused_and_the_ways_on_are_named(tmp_path):
    path = tmp_path / "best.toml"
    write_best(path, BEST)
    assert read_best(path) == BEST.values
    text = path.read_text()
    for altered in (text.replace("0.7", "0.9"), text.replace("leak", "luck"), text.replace("12.5", "13.5"), text[:-9]):
        path.write_text(altered)
        with pytest.raises(DataDamagedError, match=r"rcdp search again.*search\.generations=0"):
            read_best(path)
    for content in (*FORMS.values(), b"a = " + b"[" * 100_000, b"a = 1979-05-27\n", b"sha256 = 1\n", b""):
        path.write_bytes(content)
        with pytest.raises(DataDamagedError, match=r"best\.toml"):
            read_best(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataDamagedError, match=r"best\.toml"):
        read_best(path)
