"""benchmarks/quantize.py: the settings of its cases, and the line that it prints for each."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from launch import REPOSITORY

from rcdp_hpc.config import load_config


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("quantize", REPOSITORY / "benchmarks" / "quantize.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


def test_the_settings_of_every_case_are_accepted(program):
    for case in program.CASES:
        settings = program.settings_of(case, 3, Path("/data") if case.data else None, quick=True)
        config = load_config(case.profile, settings)
        assert (config.run.seed, config.reservoir.nodes) == (3, 60)


def test_the_line_of_a_case(program):
    def measured(accuracy, size):
        return SimpleNamespace(scores={"accuracy": accuracy}, size=SimpleNamespace(bytes=size))

    rounded = SimpleNamespace(before=measured(0.9, 4000), after=measured(0.895, 1000))
    small = SimpleNamespace(before=measured(0.9, 4000), after=measured(0.85, 400))
    found = [program.Measurement(rounded, trained=True, distilled=small, alone=0.8)] * 2
    assert program.row(program.CASES[0], found, 12.3) == (
        "| digits, eq. 11 | 90.00 | 89.50 (trained) | 4,000 | 1,000 | 85.00 | 80.00 | 400 | 12 |"
    )
    solved = [program.Measurement(rounded, trained=False)]
    assert program.row(program.CASES[1], solved, 1) == (
        "| digits, ridge | 90.00 | 89.50 | 4,000 | 1,000 | - | - | - | 1 |"
    )
