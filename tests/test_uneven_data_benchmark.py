"""The uneven data sets of the benchmarks: read out of an archive, cut by a seed, with the official test rows."""

from __future__ import annotations

import sys
import zipfile

import numpy as np
from launch import REPOSITORY

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source

# No longer than the import: other modules there have names of packages of the tests.
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import uneven_data

sys.path.remove(str(REPOSITORY / "benchmarks"))


def test_series_of_a_wheel_are_cut_to_an_exponential_profile(tmp_path, monkeypatch, capsys):
    head = "@problemName Plaid\n@univariate true\n@classLabel true 0 1 2\n@data\n"
    line = "{}:{}\n"
    with zipfile.ZipFile(tmp_path / "made.whl", "w") as wheel:
        for part, each in (("TRAIN", 20), ("TEST", 6)):
            rows = (line.format(",".join(["0.5"] * (4 + row % 3)), row % 3) for row in range(3 * each))
            wheel.writestr(f"data/PLAID/PLAID_{part}.ts", head + "".join(rows))
    command = f"plaid {tmp_path / 'made.whl'} --out {tmp_path} --imbalance 4 --seeds 1 2 --test-rows 9".split()
    monkeypatch.setattr(sys, "argv", ["uneven_data.py", *command])
    uneven_data.main()
    assert "0: 20, 1: 10, 2: 5 (largest over smallest 4)" in capsys.readouterr().out
    files = [tmp_path / f"plaid-4-{seed}.npz" for seed in (1, 2)]
    first, second = (open_source(DataSection(source="npz", path=str(file))) for file in files)
    assert np.bincount(first.train.y).tolist() == [20, 10, 5]
    assert np.bincount(first.test.y).tolist() == [3, 3, 3]
    assert first.shortest == 4
    assert first.sample_shape == second.sample_shape == (6, 1)
    assert sum(uneven_data.profile(np.full(10, 5000), 100, 2000)) == 1996
