"""What each rank of test_on_ranks.py does: fits and predicts together, and prints one line on rank 0."""

from __future__ import annotations

import sys

import numpy as np
from mpi4py import MPI
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score

import rcdp_hpc
from rcdp_hpc.sklearn import ReservoirClassifier

X, Y = load_wine(return_X_y=True)
CONFIG = {"reservoir": {"kernel": "dense-fp32"}, "data": {"balance": "none"}}


def report(comm: MPI.Comm, *values: object) -> None:
    """Print values that must be the same on all ranks."""
    together = comm.allgather(repr(values))
    assert len(set(together)) == 1, together
    if comm.rank == 0:
        print(*values, flush=True)


def refused(comm: MPI.Comm, work: object) -> None:
    """Print the error of a call, which every rank raises."""
    try:
        work()
    except ValueError as error:
        report(comm, "refused:", str(error))
        return
    raise AssertionError("not refused")


def main() -> None:
    """Do what the argument names."""
    world = MPI.COMM_WORLD
    if sys.argv[1] == "fit":
        alone = None
        for comm in (world, rcdp_hpc.connect()):
            model = clone(ReservoirClassifier(nodes=50, config=CONFIG, comm=comm)).fit(X, Y)
            probabilities = model.predict_proba(X)
            assert alone is None or np.allclose(alone, probabilities, atol=1e-5)
            alone = probabilities
            report(world, model.score(X, Y), len(model._fitted.content) > 1000)
        np.save(f"{sys.argv[2]}/{world.rank}.npy", probabilities)
        report(world, cross_val_score(model, X, Y, cv=2, error_score="raise").round(6).tolist())
        trained = ReservoirClassifier(
            nodes=50, config=CONFIG, epochs=3, comm=comm, random_state=np.random.RandomState()
        )
        report(world, trained.fit(X, Y).predict(X).tolist() == trained.predict(X).tolist(), trained.score(X, Y) > 0.5)
    else:
        rank, model = world.rank, ReservoirClassifier(nodes=50, config=CONFIG, comm=world)
        refused(world, lambda: model.fit(X + rank, Y))
        refused(world, lambda: model.fit(X, np.where(np.arange(len(Y)) == 3, rank, Y)))
        refused(world, lambda: model.fit(np.where(X > 1000, np.nan, X) if rank else X, Y))
        refused(world, lambda: model.set_params(nodes=50 + rank).fit(X, Y))
        model.set_params(nodes=50).fit(X, Y)
        refused(world, lambda: model.predict(X[rank:]))
        freed = world.Dup()
        freed.Free()
        refused(world, lambda: model.set_params(comm=freed).predict(X))
        refused(world, lambda: model.set_params(comm=None).predict(X))


if __name__ == "__main__":
    main()
