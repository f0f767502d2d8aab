"""benchmarks/gpu.py: its parts on small sizes on the CPU, and the table that it prints."""

from __future__ import annotations

import importlib
import sys

import pytest
from launch import REPOSITORY


@pytest.fixture(scope="module")
def program():
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    module = importlib.import_module("gpu")
    sys.path.remove(str(REPOSITORY / "benchmarks"))
    return module


def test_every_part_prints_its_lines(program, capsys):
    parts = [name for name in program.PARTS if name not in ("states", "steps")]
    program.main(["--device", "cpu", "--quick", "--parts", *parts])
    printed = capsys.readouterr().out
    assert "failed" not in printed
    table = printed[printed.index("| part |") :].splitlines()[2:]
    found = [line.split("|")[1].strip() for line in table]
    assert list(dict.fromkeys(found)) == ["peaks", "gram", "candidates", "profiles", "two ranks"]
    assert "| profiles | cifar10-long | left out | needs --cifar10 FOLDER |" in table
    assert "| two ranks | on one card | left out | needs a GPU |" in table


def test_a_part_that_fails_does_not_end_the_others(program, monkeypatch, capsys):
    def broken(bench):
        yield program.Row("one", "first", "1 ms")
        raise RuntimeError("out of memory\nTraceback")

    parts = {"one": broken, "two": lambda bench: iter([program.Row("two", "second", "2 ms", "1 ms")])}
    monkeypatch.setattr(program, "PARTS", parts)
    rows = program.measure(None, ["one", "two"])
    assert [row.part for row in rows] == ["one", "one", "two"]
    assert program.table(rows).splitlines()[3:] == [
        "| one | failed | RuntimeError | Traceback |",
        "| two | second | 2 ms | 1 ms |",
    ]


def test_a_gpu_is_asked_for(program, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        program.main([])
    assert "torch sees no GPU here" in capsys.readouterr().err


def test_shares_of_the_limit(program):
    bench = program.Bench(None, False, {}, {"bfloat16": 1e12})
    assert program.against(bench, 4e-3, 1e9, "bfloat16") == "1 ms (25% of the bfloat16 peak)"
    assert program.against(bench, 4e-3, 1e9, "float64") == ""
