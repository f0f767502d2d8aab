"""A source of the user's own: the example of docs/extending.md from preparation to prediction, and broken classes."""

from __future__ import annotations

import csv
import importlib
import json
import logging
import re
import shutil
import sys

import numpy as np
import pytest
from launch import REPOSITORY

from rcdp_hpc.config import DataSection, load_config
from rcdp_hpc.config.choices import SOURCES
from rcdp_hpc.config.choices.sources import SourceChoice
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.proposal import propose
from rcdp_hpc.data.sources import make_reader, open_source, read_samples
from rcdp_hpc.deploy.predict import predict
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory

CLASSES = ("cat", "dog")
SETTINGS = (
    "data.source=text_lines:TextLines", "data.class_keep_fractions=[]", "data.shards=1",
    "search.generations=0", "reservoir.nodes=20",
    "reservoir.kernel=dense-fp32", "reservoir.batch_rows=64", "readout.kind=ridge", "training.threads=1",
    "run.progress=false",
)  # fmt: skip
BROKEN = {
    "other base": ("class Mine:\n    pass", "expected a class derived from .*SourceReader, not the class Mine"),
    "function": ("def Mine(request):\n    return None", "expected a class derived from .*SourceReader, not a function"),
    "no read": ("class Mine(SourceReader):\n    pass", "__init__: failed .*abstract.*read"),
    "arguments": (
        "class Mine(SourceReader):\n    def __init__(self, a): pass\n    def read(self, request): pass",
        "__init__: failed .*missing 1 required positional argument: 'a'",
    ),
    "nothing": ("class Mine(SourceReader):\n    def read(self, request): return None", "read: returned a NoneType"),
    "failure": (
        "class Mine(SourceReader):\n    def read(self, request):\n        return {}['a']",
        r"read: failed \(KeyError: 'a'; broken_source.py, line 7\)",
    ),
    "no labels": (
        "class Mine(SourceReader):\n    def read(self, request): return request.from_arrays(x=np.zeros((4, 2)))",
        "key y is missing",
    ),
    "other length": (
        "class Mine(SourceReader):\n    def read(self, request): return request.from_arrays(x=np.eye(4), y=[0, 1])",
        "x has 4 samples, y has 2 labels",
    ),
    "label out of range": (
        "class Mine(SourceReader):\n    def read(self, request):\n        part = Part(np.eye(4), np.arange(4))\n"
        "        return Source('mine', ['a', 'b'], part, None, 1.0, 'mine')",
        "Source.train.y: expected class indices 0 to 1, got 0 to 3",
    ),
    "class without samples": (
        "class Mine(SourceReader):\n    def read(self, request):\n        part = Part(np.eye(4), np.zeros(4, int))\n"
        "        return Source('mine', ['a', 'b'], part, None, 1.0, 'mine')",
        "expected a sample of each class, got none of class b",
    ),
    "texts as samples": (
        "class Mine(SourceReader):\n    def read(self, request):\n"
        "        part = Part(np.array([['a'], ['b']]), np.arange(2))\n"
        "        return Source('mine', ['a', 'b'], part, None, 1.0, 'mine')",
        r"Source.train.x: expected numbers of shape \(samples, values, ...\), got <U1",
    ),
}


@pytest.fixture(autouse=True)
def _fresh_modules(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(logging.getLogger("rcdp_hpc"), "propagate", True)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield
    for module in ("text_lines", "broken_source", "own_numbers"):
        sys.modules.pop(module, None)


@pytest.fixture
def module(tmp_path):
    """Write the example of the page as a module; return its file."""
    page = (REPOSITORY / "docs" / "extending.md").read_text()
    example = re.search(r"```python\n(# text_lines\.py.*?)```", page, re.DOTALL)
    assert example is not None
    path = tmp_path / "text_lines.py"
    path.write_text(example[1])
    return path


def lines_of(rows, labels):
    return "".join(f"{label}: {' '.join(map(str, row))}\n" for row, label in zip(rows, labels, strict=True))


def write_animals(path, labels=True):
    generator = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = generator.normal(size=(60, 3)).round(3) + 4 * y[:, None]
    path.write_text(lines_of(x.tolist(), [CLASSES[label] if labels else "" for label in y]))
    return y


def test_the_example_prepares_trains_and_predicts(tmp_path, module):
    y = write_animals(tmp_path / "animals.txt")
    config = load_config("digits", [*SETTINGS, "data.path=animals.txt", "data.balance=none"])
    run_stages(["prepare", "train"], config, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    index = json.loads((run.shards / "index.json").read_text())
    assert index["classes"] == ["cat", "dog"]
    assert index["sample_shape"] == [3]
    assert index["source"]["samples"] == 60
    assert list(index["code"]) == ["text_lines"]
    write_animals(tmp_path / "new.txt", labels=False)
    predict(run.model, tmp_path / "new.txt", tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open() as file:
        predicted = [row["label"] for row in csv.DictReader(file)]
    assert predicted == [CLASSES[label] for label in y]


def test_a_model_names_its_source_only_with_consent(tmp_path, module, monkeypatch):
    write_animals(tmp_path / "animals.txt")
    run_stages(["prepare", "train"], load_config("digits", [*SETTINGS, "data.path=animals.txt"]), tmp_path / "run")
    model = RunDirectory(tmp_path / "run").model
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "somebody"))
    with pytest.raises(InputError, match=r"names code that would be run, data.source = 'text_lines:TextLines'"):
        predict(model, tmp_path / "animals.txt", tmp_path / "labels.csv")
    predict(model, tmp_path / "animals.txt", tmp_path / "labels.csv", allow_code=True)
    # Another source needs none of that code.
    np.savez(tmp_path / "new.npz", x=np.zeros((2, 3)))
    counts = predict(model, tmp_path / "new.npz", tmp_path / "more.csv", DataSection(source="npz"), any_scale=True)
    assert sum(counts.values()) == 2


def test_changed_code_is_compared_with_the_shards(tmp_path, module):
    write_animals(tmp_path / "animals.txt")
    config = load_config("digits", [*SETTINGS, "data.path=animals.txt"])
    prepare_shards(config, tmp_path / "shards")
    module.write_text(module.read_text() + "\n# The same samples.\n")
    prepare_shards(config, tmp_path / "shards")
    module.write_text(module.read_text().replace("float(word)", "2 * float(word)"))
    sys.modules.pop("text_lines")
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    importlib.invalidate_caches()
    with pytest.raises(InputError, match=r"holds shards of other data than data\.path"):
        prepare_shards(config, tmp_path / "shards")


def test_a_source_without_a_path_and_with_new_samples_by_content(tmp_path):
    (tmp_path / "own_numbers.py").write_text(
        "import numpy as np\nfrom rcdp_hpc.data.sources import SourceReader\n\n\n"
        "class Waves(SourceReader):\n    needs_path = False\n\n    def read(self, request):\n"
        "        test = {'x_test': np.ones((2, 4)), 'y_test': ['a', 'b']}\n"
        "        return request.from_arrays(x=np.eye(6, 4), y=['a', 'b'] * 3, ids=list('uvwxyz'), **test)\n"
    )
    settings = DataSection(source="own_numbers:Waves")
    source = open_source(settings)
    assert (source.name, source.classes, source.sample_shape) == ("own_numbers:Waves", ["a", "b"], (4,))
    assert (list(source.train.ids), len(source.test)) == (list("uvwxyz"), 2)
    with pytest.raises(InputError, match=r"data.test_path = 'x.npz': data.source = 'own_numbers"):
        open_source(DataSection(source="own_numbers:Waves", test_path="x.npz"))


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_class_is_refused(case, tmp_path):
    text, message = BROKEN[case]
    header = "import numpy as np\nfrom rcdp_hpc.data.sources import Part, Source, SourceReader\n\n\n\n"
    (tmp_path / "broken_source.py").write_text(header[:-1] + text + "\n")
    settings = DataSection(source="broken_source:Mine", path=str(tmp_path))
    with pytest.raises(InputError, match=message) as refused:
        open_source(settings)
    if case not in ("no labels", "other length"):
        assert str(refused.value).startswith("data.source = 'broken_source:Mine'")


def test_broken_new_samples_are_refused(tmp_path):
    (tmp_path / "broken_source.py").write_text(
        "from rcdp_hpc.data.sources import SourceReader\n\n\nclass Mine(SourceReader):\n"
        "    def read(self, request): ...\n    def read_new(self, request): return [1, 2]\n"
    )
    with pytest.raises(InputError, match="read_new: returned a list, expected NewSamples"):
        read_samples(tmp_path, DataSection(source="broken_source:Mine"))


def test_each_source_of_the_table_has_a_reader():
    for choice in SOURCES:
        reader = make_reader(choice.name)
        assert reader.takes_test_path == ("data.test_path" in choice.keys), choice.name
        assert reader.needs_path == (choice.name not in ("digits", "arrays"))


@pytest.fixture
def added_line():
    """A line of the table for the class text_lines:Lines."""
    choices = SOURCES.choices
    object.__setattr__(SOURCES, "choices", (SourceChoice("lines", "one sample per line", "text_lines:Lines"), *choices))
    yield
    object.__setattr__(SOURCES, "choices", choices)


@pytest.mark.usefixtures("added_line")
def test_a_line_of_the_table_is_all_that_a_source_needs(tmp_path, module, monkeypatch):
    """What the configuration accepts, the reader and the proposal of rcdp init follow from the table."""
    monkeypatch.syspath_prepend(str(tmp_path))
    with module.open("a") as file:
        file.write(
            "\n\nclass Lines(TextLines):\n    @classmethod\n    def recognises(cls, path):\n"
            "        return path.suffix == '.lines'\n"
        )
    y = write_animals(tmp_path / "animals.lines")
    with pytest.raises(InputError, match=r"expected one of lines, digits, .*, or a class of your own as module:Class"):
        load_config("digits", ["data.source=line"])
    proposal = propose(tmp_path / "animals.lines")
    assert proposal.settings == {"source": "lines", "path": str(tmp_path / "animals.lines")}
    source = open_source(load_config("digits", ["data.source=lines", "data.path=animals.lines"]).data)
    assert (source.name, len(source.train)) == ("lines", len(y))
