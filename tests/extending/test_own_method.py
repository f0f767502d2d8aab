"""Methods of the user's own in a comparison: the module of the page, on small data."""

from __future__ import annotations

import re
import sys

import pytest
from launch import REPOSITORY
from method_cells import cell, method, prepared, series, settings, without_times

NAMES = ("my_methods:Neighbours", "my_methods:RandomGRU")


@pytest.fixture
def my_methods(tmp_path, monkeypatch):
    """The module of the page, in the working directory."""
    page = (REPOSITORY / "docs/extending.md").read_text()
    (code,) = re.findall(r"```python\n(# my_methods\.py.*?)```", page, re.DOTALL)
    (tmp_path / "my_methods.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_methods", None)


@pytest.mark.parametrize("name", NAMES)
def test_methods_of_the_page_learn_and_repeat(my_methods, tmp_path, name):
    config = settings(series(tmp_path), training={"epochs": 30}, search={"population": 2, "epochs": 5})
    shards = prepared(config, tmp_path / "run")
    first, second = (method(name).run(cell(config, shards, tmp_path / run)) for run in "ab")
    assert method(name).problem(config, cell(config, shards, tmp_path / "a").facts) is None
    assert first.test["accuracy"] > 0.7
    assert without_times(first) == without_times(second)
    assert first.chosen.keys() >= ({"n_neighbors"} if "Neighbours" in name else {"hidden", "learning_rate"})
