"""The example of two nodes: trained in Python, predicted and averaged in Octave, as `rcdp average` averages them."""

from __future__ import annotations

import re
import runpy
import sys

import numpy as np
import octave
import pytest
import scipy.io
from launch import REPOSITORY

from rcdp_hpc.deploy.average import average
from rcdp_hpc.deploy.export.export import export

EXAMPLE = REPOSITORY / "examples/octave/average_nodes.m"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nodes.py", str(folder)])
        runpy.run_path(str(REPOSITORY / "examples/nodes.py"), run_name="__main__")
    return folder


def test_the_script_predicts_and_averages(folder):
    octave.require()
    done = octave.run(f"source('{EXAMPLE}')", folder)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\S+): (\d+) of 60 correct, (\d+) training rows$", done.stdout, re.MULTILINE)
    assert [name for name, *_ in found] == ["node1.mat", "node2.mat", "average.mat"]
    assert min(int(correct) for _, correct, _ in found) >= 54
    rows = [int(rows) for *_, rows in found]
    assert rows[2] == rows[0] + rows[1] > 0
    assert re.search(r"^first sample: [012] \(0\.\d{3}\)$", done.stdout, re.MULTILINE)


def test_an_average_in_octave_is_that_of_rcdp_average(folder):
    octave.require()
    average([folder / "node1/run", folder / "node2/run"], folder / "mean.pt")
    export(folder / "mean.pt", folder / "mean.mat", check=False)
    done = octave.run(
        "load('samples.mat'); [~, one] = rcdp_predict('mean.mat', samples); "
        "[~, other] = rcdp_predict(rcdp_average({'node1.mat', 'node2.mat'}), samples); "
        "save('-v6', 'p.mat', 'one', 'other')",
        folder,
    )
    assert done.returncode == 0, done.stderr
    found = scipy.io.loadmat(folder / "p.mat")
    assert np.abs(found["one"] - found["other"]).max() < 1e-6
    assert np.ptp(found["one"], axis=0).max() > 0.5
