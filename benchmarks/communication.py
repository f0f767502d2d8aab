"""Share of communication in the training of a readout: batches of 64 and 512, accumulated gradients, local SGD.

    mpirun -n 2 python benchmarks/communication.py --data MNIST [--batches 64 512] [--epochs 6]

Each rank has one thread and trains the network of eq. 11 on cached states of 1000 nodes. The seconds are those that the
trainer measures in every epoch (docs/formats.md): the shortest time of a rank in a message counts as communication, the
rest as waiting. Values are medians over the epochs after the first, and means over ranks. Without --data the inputs are
random.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from training_peers import SEED, Rows, compute_states, settings_of

from rcdp_hpc.config import with_settings
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.parallel.choose import strategy_for
from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.loop import Trainer

WAYS = {
    "every batch": {},
    "fp16": {"parallel.compression": "fp16"},
    "4 batches accumulated": {"training.accumulate": 4},
    "local SGD, 4 steps": {"parallel.local_steps": 4},
    "local SGD, 16 steps": {"parallel.local_steps": 16},
}


def measure(folder: Path, batch: int, epochs: int, changes: dict, comm) -> dict[str, float]:
    """Train once and return the costs of an epoch."""
    config = with_settings(settings_of("network", batch, epochs), changes)
    parallel = strategy_for(comm, 120, config.parallel)
    rows = Rows(folder, "network", config, comm.rank, comm.size)
    network = build_readout(config, rows.feature_shape, 10, SEED, parallel)
    trainer = Trainer(config, SEED, 10, network, rows.train, rows.validation, rows.plan, comm, parallel)
    reports = []
    trainer.run(lambda: None, reports.append)
    kinds = ("compute_seconds", "wait_seconds", "communicate_seconds", "bytes_sent")
    found = {kind: float(np.median([np.mean(getattr(one, kind)) for one in reports[1:]])) for kind in kinds}
    found["rate"] = float(np.median([one.samples_per_second for one in reports[1:]]))
    found["loss"] = reports[-1].train_loss
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="folder of MNIST's IDX files")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--nodes", type=int, default=1000)
    chosen = parser.parse_args()
    comm = connect()
    folder = Path(comm.broadcast(tempfile.mkdtemp() if comm.is_root else None))
    with limit_threads(1):
        if comm.is_root:
            compute_states(folder, chosen.data, chosen.rows, chosen.nodes)
            print("| batch | gradients | computing | waiting | communicating | MiB an epoch | samples/s | loss |")
            print("|---|---|---|---|---|---|---|---|", flush=True)
        comm.barrier()
        for batch in chosen.batches:
            for way, changes in WAYS.items():
                one = measure(folder, batch, chosen.epochs, changes, comm)
                total = one["compute_seconds"] + one["wait_seconds"] + one["communicate_seconds"]
                shares = [one[f"{kind}_seconds"] / total for kind in ("compute", "wait", "communicate")]
                if comm.is_root:
                    print(
                        f"| {batch} | {way} | " + " | ".join(f"{share:.0%}" for share in shares)
                        + f" | {one['bytes_sent'] / 2**20:.1f} | {one['rate']:,.0f} | {one['loss']:.4f} |",
                        flush=True,
                    )  # fmt: skip
    if comm.is_root:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


if __name__ == "__main__":
    main()
