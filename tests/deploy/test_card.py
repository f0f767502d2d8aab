"""The model card of a trained model: its figures are those of the run, and names cannot break its Markdown."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.card import CALLS, model_card
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.model.intervals import wilson
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.digests import file_sha256, read_sealed
from rcdp_hpc.runtime.rundir import RunDirectory

SETTINGS = (
    "search.generations=0", "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "training.epochs=1",
    "training.threads=1", "training.baseline=false", "readout.kind=ridge",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    run_stages(["prepare", "train", "evaluate"], load_config("digits", SETTINGS), out)
    return RunDirectory(out)


@pytest.fixture(scope="module")
def file(run):
    return ModelFile.read(run.model)


def test_the_figures_are_those_of_the_run(run, file):
    card = model_card(file, run)
    summary, index = read_sealed(run.report / "summary.json"), read_sealed(run.shards / "index.json")
    test = summary["test"]
    low, high = wilson(test["correct"], test["samples"])
    assert f"{100 * test['accuracy']:.2f} % ({100 * low:.1f} to {100 * high:.1f} %; {test['correct']}" in card
    assert f"| balanced accuracy | {test['balanced_accuracy']:.4f} |" in card
    synthetic = sum(index["splits"]["train"]["synthetic_counts"])
    assert synthetic > 0
    assert f"{synthetic:,} of the {index['splits']['train']['rows']:,} training rows" in card
    first = index["class_table"][0]
    assert f"| 0 | {first['source']} | {first['dropped']} | {first['before']} | {first['after']} |" in card
    for digest in (file.shards, file_sha256(run.model), file_sha256(run.config_file), index["source"]["sha256"]):
        assert f"`{digest}`" in card
    assert f"| trained parameters | {summary['complexity']['trained']:,} |" in card
    assert 'rcdp_hpc.load("model.pt")' in card
    assert "shape (rows, 8, 8)" in card
    rows = [line for line in card.splitlines() if line.startswith("| 9 |")]
    assert len(rows) == 2  # in the table of the data, and in that of the results


@pytest.mark.parametrize("suffix", [*CALLS, ".other"])
def test_each_kind_of_file_says_how_to_call_it(run, file, suffix):
    card = model_card(file, run, Path(f"digits{suffix}"))
    assert card.startswith(f"# digits\\_x{suffix}" if "_" in suffix else f"# digits{suffix}")
    section = card.split("## How to call it")[1].split("## ")[0]
    language, _ = CALLS.get(suffix, CALLS[".pt"])
    assert f"```{language}\n" in section
    assert "{" not in section.replace('{"samples"', "")


def test_a_model_without_its_run_says_what_is_not_known(file):
    card = model_card(file)
    assert "Not known: the shards of the training" in card
    assert "Not known: this model has not been evaluated" in card
    assert f"`{file.shards}`" in card


def test_results_and_shards_of_another_model_are_not_used(run, file, tmp_path):
    other = tmp_path / "model.pt"
    shutil.copy(run.model, other)
    other.write_bytes(other.read_bytes())
    assert "balanced accuracy" in model_card(replace(file, where=str(other)), run)
    assert "balanced accuracy" not in model_card(replace(file, where=str(run.config_file)), run)
    assert "Not known: the shards" in model_card(replace(file, shards="0" * 64), run)


def test_a_damaged_result_is_refused(run, file, tmp_path):
    copy = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, copy.path)
    summary = copy.report / "summary.json"
    summary.write_text(summary.read_text().replace('"correct"', '"wrong"', 1))
    with pytest.raises(DataDamagedError, match="rcdp evaluate"):
        model_card(file, copy)


def test_names_of_classes_do_not_become_markdown(file):
    names = ["a|b", "<script>alert(1)</script>", "line\nbreak", "[x](y)", "`", "*", "_", "#", "", "\u202e"]
    card = model_card(replace(file, classes=names))
    assert "<script>" not in card
    assert "a\\|b" in card
    assert "line\nbreak" not in card
    assert "[x](y)" not in card
