"""States computed by ReservoirPy and PyRCN, in their own interpreter: python reservoir_peers.py IN.npz OUT.npz.

IN holds recurrent, input, bias, u (samples, steps, features), leak and workers; the activation is tanh. For
each installed package OUT holds the last states, the seconds, and the MB of all its processes.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from reservoir_memory import extra_mb, peak_mb, reset_peak

Measured = tuple[np.ndarray, float, float]


def reservoirpy(task: dict[str, np.ndarray]) -> Measured:
    import scipy.sparse
    from joblib import Parallel, delayed
    from reservoirpy.nodes import Reservoir

    recurrent = scipy.sparse.csr_matrix(task["recurrent"])

    def part(u: np.ndarray) -> tuple[np.ndarray, float]:
        before = reset_peak()
        node = Reservoir(W=recurrent, Win=task["input"], bias=task["bias"], lr=float(task["leak"]))
        node.initialize(u[0])
        last = []
        for sequence in u:
            node.reset()
            last.append(np.asarray(node.run(sequence))[-1])
        return np.array(last), peak_mb() - before

    workers = int(task["workers"])
    parts = np.array_split(task["u"].astype(np.float64), workers)
    with Parallel(n_jobs=workers) as parallel:
        parallel(delayed(part)(rows[:1]) for rows in parts)
        started = time.perf_counter()
        results = parallel(delayed(part)(rows) for rows in parts)
        seconds = time.perf_counter() - started
    return np.concatenate([states for states, _ in results]), seconds, sum(extra for _, extra in results)


def pyrcn(task: dict[str, np.ndarray]) -> Measured:
    import scipy.sparse
    from pyrcn.base.blocks import InputToNode, NodeToNode

    nodes = len(task["bias"])
    node = NodeToNode(hidden_layer_size=nodes, reservoir_activation="tanh", leakage=float(task["leak"]))
    into = InputToNode(hidden_layer_size=nodes, input_activation="identity")
    sample = task["u"][0].astype(np.float64)
    into.fit(sample)
    node.fit(into.transform(sample))
    node._recurrent_weights = scipy.sparse.csr_matrix(task["recurrent"].T)
    driven = [sequence @ task["input"].T + task["bias"] for sequence in task["u"].astype(np.float64)]
    started = time.perf_counter()
    states, extra = extra_mb(lambda: [node.transform(sequence)[-1] for sequence in driven])
    return np.array(states), time.perf_counter() - started, extra


def main() -> None:
    task = dict(np.load(sys.argv[1]))
    results: dict[str, object] = {}
    for name, peer in (("reservoirpy", reservoirpy), ("pyrcn", pyrcn)):
        try:
            results[f"{name}_states"], results[f"{name}_seconds"], results[f"{name}_mb"] = peer(task)
        except Exception as error:  # a package that is missing or has another interface becomes a line of the output
            results[f"{name}_error"] = f"{type(error).__name__}: {error}"
    np.savez(sys.argv[2], **results)


if __name__ == "__main__":
    main()
