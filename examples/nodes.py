"""Two nodes train on their own rows of a table, and export their models for GNU Octave, where they are averaged.

python examples/nodes.py FOLDER
cd FOLDER && octave-cli /path/to/examples/octave/average_nodes.m

writes node1.mat, node2.mat, and samples.mat with rows that no node has seen.
"""

import sys
from pathlib import Path

import numpy as np
import scipy.io
from sklearn.datasets import load_wine

import rcdp_hpc
from rcdp_hpc.deploy.export.export import export

WINE = load_wine()
NAMES = [name.replace("/", "_") for name in WINE.feature_names]


def train(folder: Path, rows: np.ndarray) -> Path:
    """Train on some rows of the table; return the run directory."""
    folder.mkdir(parents=True, exist_ok=True)
    table = np.column_stack([WINE.data[rows], WINE.target[rows]])
    np.savetxt(folder / "wine.csv", table, "%g", ",", header=",".join([*NAMES, "cultivar"]), comments="")
    settings = {
        # The same seed on all nodes: their reservoirs are equal, and only what is trained differs.
        "run": {"seed": 1},
        "data": {"source": "csv", "path": folder / "wine.csv", "label_column": "cultivar"},
        "search": {"generations": 0},
        "readout": {"kind": "ridge"},
        "reservoir": {"nodes": 60, "kernel": "dense-fp32"},
    }
    rcdp_hpc.run(rcdp_hpc.load_config(settings), out=folder / "run")
    return folder / "run"


def main() -> None:
    """Train, export, and write the samples."""
    folder = Path(sys.argv[1])
    rows = np.arange(len(WINE.target))
    for node in (1, 2):
        run = train(folder / f"node{node}", rows[rows % 3 == node])
        print(f"node{node}.mat: {export(run, folder / f'node{node}.mat').summary}")
    unseen = rows[rows % 3 == 0]
    labels = WINE.target[unseen].astype(str).astype(object)[:, None]
    scipy.io.savemat(folder / "samples.mat", {"samples": WINE.data[unseen], "labels": labels})


if __name__ == "__main__":
    main()
