"""The programs of docs/python.md and of the optimisers run as they are printed."""

from __future__ import annotations

import doctest
import re
import runpy
from importlib import import_module

import pytest
from launch import REPOSITORY

import rcdp_hpc.search.optimizers
from rcdp_hpc.config.choices import SEARCH_OPTIMIZERS

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run_blocks(page: str, folder, monkeypatch) -> dict[str, object]:
    """Run the Python blocks of a page as one program; return its variables."""
    monkeypatch.chdir(folder)
    program = folder / "program.py"
    program.write_text("\n".join(BLOCK.findall((REPOSITORY / "docs" / page).read_text())))
    return runpy.run_path(str(program))


def test_the_page_for_python(tmp_path, monkeypatch, capsys):
    names = run_blocks("python.md", tmp_path, monkeypatch)
    accuracy, predicted, intact = capsys.readouterr().out.splitlines()
    assert float(accuracy) > 0.9
    assert predicted == "['0' '0' '0' '0' '0'] (5, 3)"
    assert intact == "True"
    assert names["scores"]["accuracy"] == names["result"]["evaluate"]["accuracy"]


def test_ask_and_tell(tmp_path, monkeypatch):
    names = run_blocks("search.md", tmp_path, monkeypatch)
    assert names["position"] == pytest.approx([1, 2], abs=1e-3)
    assert doctest.testmod(rcdp_hpc.search.optimizers).failed == 0


@pytest.mark.parametrize("choice", list(SEARCH_OPTIMIZERS), ids=lambda choice: choice.name)
def test_every_optimiser_has_a_public_name(choice):
    module, _, name = choice.target.partition(":")
    assert getattr(rcdp_hpc.search.optimizers, name) is getattr(import_module(module), name)
    assert name in rcdp_hpc.search.optimizers.__all__
