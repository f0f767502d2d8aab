"""Classify tables and series with scikit-learn's tools: a pipeline, a grid search, and a model file.

python examples/estimator.py model.pt
mpirun -n 2 python examples/estimator.py model.pt
"""

import sys

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rcdp_hpc
from rcdp_hpc.sklearn import ReservoirClassifier


def sines(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return noisy sines of unequal length, each of shape (steps, 1), and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.choice(["slow", "fast"], count)
    steps = [np.arange(length) for length in rng.integers(20, 60, count)]
    x = [np.sin((0.3 if label == "slow" else 0.5) * one) for label, one in zip(y, steps, strict=True)]
    return [one[:, None] + rng.normal(0, 0.5, (len(one), 1)) for one in x], y


def main() -> None:
    """Fit and print the scores on rank 0."""
    comm = rcdp_hpc.connect()
    report = print if comm.is_root else lambda *values: None

    # Every rank calls the same methods with the same data.
    x, x_test, y, y_test = train_test_split(*load_wine(return_X_y=True), test_size=0.5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), ReservoirClassifier(nodes=100, comm=comm))
    search = GridSearchCV(pipeline, {"reservoirclassifier__input_scaling": [0.1, 0.5]}, cv=3).fit(x, y)
    report(f"wine: {search.score(x_test, y_test):.3f} with {search.best_params_}")

    model = ReservoirClassifier(nodes=100, kind="series", random_state=1, comm=comm).fit(*sines(100, seed=1))
    report(f"series: {model.score(*sines(100, seed=2)):.3f}, classes {', '.join(model.classes_)}")

    if comm.is_root:
        model.save(sys.argv[1])  # for rcdp predict and rcdp_hpc.load_model


if __name__ == "__main__":
    main()
