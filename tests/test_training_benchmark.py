"""benchmarks/training_peers.py: its arguments, and the table that it prints."""

from __future__ import annotations

import sys

import pytest
from launch import REPOSITORY

# No longer than the import: other modules there have names of packages of the tests.
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import training_peers

sys.path.remove(str(REPOSITORY / "benchmarks"))

WAYS = [("horovod", "mpirun"), ("torch", "mpirun"), ("ddp", "gloo")]


def curve(way, rates, losses, seconds):
    return {"readout": "network", "batch": 64, "way": list(way), "rates": rates, "losses": losses, "seconds": seconds}


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_compares_each_round_and_leaves_out_the_first_epoch():
    losses = [2.0, 1.0, 0.5]
    curves = [
        curve(WAYS[0], [1, 100, 100], losses, [9, 0.25, 0.25]),
        curve(WAYS[1], [1, 200, 200], losses, [9, 0.5, 0.5]),
        curve(WAYS[2], [1, 50, 50], [2.0, 1.0, 0.75], []),
        # The machine is slower in the second round.
        curve(WAYS[0], [1, 60, 60], losses, [9, 0.75, 0.75]),
        curve(WAYS[1], [1, 60, 60], losses, [9, 0.5, 0.5]),
        curve(WAYS[2], [1, 30, 30], [2.0, 1.0, 0.75], []),
    ]
    horovod, torch, ddp = map(cells, training_peers.table(curves, WAYS).splitlines()[2:])
    assert horovod == [
        "network", "64", "Horovod, mpirun", "80", "2.00 (2.00 to 2.00)", "1.00 (1.00 to 1.00)", "0.500", "equal"
    ]  # fmt: skip
    assert torch[3:] == ["130", "3.00 (2.00 to 4.00)", "1.50 (1.00 to 2.00)", "0.500", "equal"]
    assert ddp[3:] == ["40", "1.00 (1.00 to 1.00)", "0.50 (0.50 to 0.50)", "not measured", "2.5e-01"]


@pytest.mark.parametrize("arguments", [["--epochs", "1"], ["--engines", "mpi"], ["--readouts", "ridge"]])
def test_wrong_arguments_are_refused_before_anything_runs(arguments, monkeypatch, capsys):
    monkeypatch.setattr(training_peers, "compute_states", None)
    with pytest.raises(SystemExit) as end:
        training_peers.main(arguments)
    assert end.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "ways"),
    [
        (["--engines", "torch"], [("torch", "mpirun"), ("torch", "gloo"), ("ddp", "gloo")]),
        (["--launchers", "mpirun"], WAYS),
    ],
)
def test_engines_and_launchers_choose_what_runs_in_rotating_order(arguments, ways, monkeypatch, capsys):
    ran = []

    def measure(folder, way):
        ran.append(way)
        line = training_peers.json.dumps(curve(way, [1, 2], [1, 1], [1, 1]))
        with (folder / "curves.jsonl").open("a") as file:
            file.write(line + "\n")

    monkeypatch.setattr(training_peers, "compute_states", lambda *sizes: None)
    monkeypatch.setattr(training_peers, "measure", measure)
    training_peers.main([*arguments, "--repeats", "2"])
    assert ran == [*ways, *ways[1:], ways[0]]
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(ways)
