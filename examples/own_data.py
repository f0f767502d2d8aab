"""Train on data of your own: a configuration as a dict, all stages, the scores and the checks of the shards.

python examples/own_data.py FOLDER

writes a table of wines to FOLDER/wine.csv, in place of your own, and the run to FOLDER/run.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine

import rcdp_hpc


def write_table(path: Path) -> None:
    """Write a table as a CSV file: one row for each wine, the label in the column "cultivar"."""
    wine = load_wine()
    header = ",".join([*(name.replace("/", "_") for name in wine.feature_names), "cultivar"])
    np.savetxt(path, np.column_stack([wine.data, wine.target]), "%g", ",", header=header, comments="")


def main() -> None:
    """Train and print the scores."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "wine.csv")
    data = {"source": "csv", "path": folder / "wine.csv", "label_column": "cultivar"}
    config = rcdp_hpc.load_config({"data": data, "run": {"seed": 1}})
    result = rcdp_hpc.run(config, out=folder / "run")
    scores = result["evaluate"]
    print(f"training rows: {result['prepare']['train']}")
    print(f"test accuracy: {scores['correct']} of {scores['samples']}, macro F1 {scores['macro_f1']:.3f}")
    print(f"shards are intact: {rcdp_hpc.verify(folder / 'run').ok}")


if __name__ == "__main__":
    main()
