"""The programs in examples/, on one process and on ranks."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import sys
from typing import Any

import numpy as np
import pytest
from launch import REPOSITORY, run_ranks
from sklearn.datasets import load_wine

import rcdp_hpc

EXAMPLES = REPOSITORY / "examples"


@pytest.mark.mpi
@pytest.mark.timeout(180)
def test_minimize_prints_the_same_on_one_and_three_ranks():
    program = EXAMPLES / "minimize.py"
    assert len(program.read_text().splitlines()) <= 40
    done = [run_ranks(ranks, [sys.executable, str(program)], timeout=60) for ranks in (0, 3)]
    assert [one.returncode for one in done] == [0, 0], [one.stdout for one in done]
    alone, together = (one.stdout.splitlines() for one in done)
    assert "on 1 ranks" in alone[0]
    assert "on 3 ranks" in together[0]
    assert alone[0].partition(" on ")[0] == together[0].partition(" on ")[0]
    assert alone[1:] == together[1:]
    assert alone[3:] == ["  steps = 3", "  kind = 'round'"]


def test_own_data_then_prediction(tmp_path):
    trained = run_ranks(0, [sys.executable, str(EXAMPLES / "own_data.py"), str(tmp_path)], timeout=60)
    assert trained.returncode == 0, trained.stdout
    correct, samples = map(int, re.search(r"test accuracy: (\d+) of (\d+)", trained.stdout).groups())
    assert correct >= 0.85 * samples
    assert "shards are intact: True" in trained.stdout
    done = run_ranks(0, [sys.executable, str(EXAMPLES / "predict.py"), str(tmp_path / "run")], timeout=60)
    assert done.returncode == 0, done.stdout
    lines = [line for line in done.stdout.splitlines() if re.match(r"\d \[", line)]
    assert len(lines) == 9
    assert sum(line[0] == str(label) for line, label in zip(lines, load_wine().target[::20], strict=True)) >= 8
    assert "refused: samples: samples of shape (12,)" in done.stdout
    written = (tmp_path / "run" / "labels.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in written[1:]] == [line[0] for line in lines]


@pytest.mark.mpi
@pytest.mark.timeout(180)
def test_stages_on_two_ranks(tmp_path):
    command = [sys.executable, str(EXAMPLES / "stages.py"), str(tmp_path / "run")]
    done = run_ranks(2, command, timeout=120)
    assert done.returncode == 0, done.stdout
    results = re.compile(r"^(?:2 ranks|search:|density|training:|test:).*", re.MULTILINE).findall(done.stdout)
    assert results[:2] == ["2 ranks, 1230 training rows", results[1]]
    assert "8 evaluations" in results[1]
    assert "20 epochs" in results[3]
    correct, samples = map(int, re.match(r"test: (\d+) of (\d+) correct", results[4]).groups())
    assert correct >= 0.9 * samples


def run_cell(source: str, names: dict[str, Any]) -> str:
    """Run a cell and return what a notebook shows: the printed text and the value of the last expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), names)
        if last is not None and (value := eval(compile(ast.Expression(last.value), "cell", "eval"), names)) is not None:
            print(repr(value))
    return printed.getvalue()


def shape_of_text(text: str) -> str:
    """The text without the numbers, which depend on the processor, and without its line breaks."""
    return re.sub(r"\s+", "", re.sub(r"\d+(\.\d+)?", "#", text))


def test_the_notebook_shows_its_stored_outputs():
    """The cells run in one namespace, as in a notebook but without Jupyter, which the tests do not need."""
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        shown = run_cell("".join(cell["source"]), names)
        stored = [output.get("text") or output["data"]["text/plain"] for output in cell["outputs"]]
        assert shape_of_text(shown) == shape_of_text("".join("".join(lines) for lines in stored))
    assert names["scores"]["accuracy"] > 0.9
    assert (names["prediction"].labels == names["new_labels"].astype(str)).mean() > 0.85
    assert names["again"]["evaluate"] == names["scores"]


def test_programs_and_notebook_fit_on_a_screen_and_have_a_text():
    programs = sorted(EXAMPLES.glob("*.py"))
    assert len(programs) >= 5
    for program in programs:
        lines = program.read_text().splitlines()
        assert len(lines) <= 60, program.name
        assert f"python examples/{program.name}" in ast.get_docstring(ast.parse("\n".join(lines)))


def test_the_estimator_and_its_model_file(tmp_path):
    model = tmp_path / "model.pt"
    done = run_ranks(0, [sys.executable, str(EXAMPLES / "estimator.py"), str(model)], timeout=60)
    assert done.returncode == 0, done.stdout
    wine, series = (float(score) for score in re.findall(r"^(?:wine|series): (\S+?),? ", done.stdout, re.MULTILINE))
    assert wine >= 0.93
    assert series >= 0.85
    steps = np.arange(30)
    slow, fast = (np.sin(frequency * steps)[:, None] for frequency in (0.3, 0.5))
    prediction = rcdp_hpc.predict(model, [slow, fast[:25]])
    assert prediction.labels.tolist() == ["slow", "fast"]
