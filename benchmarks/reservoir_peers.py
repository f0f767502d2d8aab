"""States by ReservoirPy and PyRCN, in an interpreter of their own: python reservoir_peers.py IN.npz OUT.npz.

IN holds recurrent, input, bias, u (samples, steps, features), leak and workers; the activation is tanh. OUT holds, for
each peer that is installed, its last states, the seconds they took, and the MB they needed in all its processes.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from reservoir_memory import extra_mb, forget_peak, peak_mb

Found = tuple[np.ndarray, float, float]


def reservoirpy(given: dict[str, np.ndarray]) -> Found:
    import scipy.sparse
    from joblib import Parallel, delayed
    from reservoirpy.nodes import Reservoir

    recurrent = scipy.sparse.csr_matrix(given["recurrent"])

    def part(u: np.ndarray) -> tuple[np.ndarray, float]:
        before = forget_peak()
        node = Reservoir(W=recurrent, Win=given["input"], bias=given["bias"], lr=float(given["leak"]))
        node.initialize(u[0])
        last = []
        for sequence in u:
            node.reset()
            last.append(np.asarray(node.run(sequence))[-1])
        return np.array(last), peak_mb() - before

    workers = int(given["workers"])
    pieces = np.array_split(given["u"].astype(np.float64), workers)
    with Parallel(n_jobs=workers) as parallel:
        parallel(delayed(part)(piece[:1]) for piece in pieces)
        started = time.perf_counter()
        found = parallel(delayed(part)(piece) for piece in pieces)
        seconds = time.perf_counter() - started
    return np.concatenate([states for states, _ in found]), seconds, sum(extra for _, extra in found)


def pyrcn(given: dict[str, np.ndarray]) -> Found:
    import scipy.sparse
    from pyrcn.base.blocks import InputToNode, NodeToNode

    nodes = len(given["bias"])
    node = NodeToNode(hidden_layer_size=nodes, reservoir_activation="tanh", leakage=float(given["leak"]))
    into = InputToNode(hidden_layer_size=nodes, input_activation="identity")
    sample = given["u"][0].astype(np.float64)
    into.fit(sample)
    node.fit(into.transform(sample))
    node._recurrent_weights = scipy.sparse.csr_matrix(given["recurrent"].T)
    driven = [sequence @ given["input"].T + given["bias"] for sequence in given["u"].astype(np.float64)]
    started = time.perf_counter()
    found, extra = extra_mb(lambda: [node.transform(sequence)[-1] for sequence in driven])
    return np.array(found), time.perf_counter() - started, extra


def main() -> None:
    given = dict(np.load(sys.argv[1]))
    results: dict[str, object] = {}
    for name, peer in (("reservoirpy", reservoirpy), ("pyrcn", pyrcn)):
        try:
            results[f"{name}_states"], results[f"{name}_seconds"], results[f"{name}_mb"] = peer(given)
        except Exception as error:  # a peer that is missing or differs in its interface is a line in the table
            results[f"{name}_error"] = f"{type(error).__name__}: {error}"
    np.savez(sys.argv[2], **results)


if __name__ == "__main__":
    main()
