"""Predict arrays with a trained model, and read the rows that it was trained on.

python examples/own_data.py FOLDER
python examples/predict.py FOLDER/run
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine

import rcdp_hpc


def main() -> None:
    """Predict samples in memory, then in a file."""
    run = Path(sys.argv[1])
    new = load_wine().data[::20]  # raw values, as in the table
    model = rcdp_hpc.load_model(run)
    prediction = rcdp_hpc.predict(model, new)
    for label, probabilities in zip(prediction.labels, prediction.probabilities, strict=True):
        print(label, np.round(probabilities, 2))
    try:
        rcdp_hpc.predict(model, new[:, 1:])
    except rcdp_hpc.errors.InputError as error:
        print(f"refused: {error}")
    np.save(run / "new.npy", new)
    written = rcdp_hpc.predict(run, run / "new.npy", to=run / "labels.csv")
    print(f"samples of each class: {written.counts}")
    shards = rcdp_hpc.ShardReader(run / "shards")
    rows = shards.read("train", 0, 100)
    print(f"of 100 training rows, the balancing made {rows.synthetic.sum()}")


if __name__ == "__main__":
    main()
