"""Cost of preparation: SMOTE and imbalanced-learn, reading shards and one dataset, a source larger than the budget.

    python benchmarks/data.py balance --mnist FOLDER     SMOTE in memory on unbalanced MNIST
    python benchmarks/data.py read                       shards, and one contiguous dataset with the same bytes
    python benchmarks/data.py stream --gib 1.5 3 6       seconds and peak memory with a budget of 1 GiB

Each prints one JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

SHARES = np.linspace(1, 0.05, 10)


def report(**values):
    print(json.dumps(values), flush=True)


def timed(work, repeats):
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 3)


def unbalanced_mnist(folder):
    from rcdp_hpc.config import DataSection
    from rcdp_hpc.data.sources import open_source

    source = open_source(DataSection(source="mnist", path=str(folder), memory_budget=2**20))
    y = source.train.y
    rows = [np.flatnonzero(y == label)[: int(share * (y == label).sum())] for label, share in enumerate(SHARES)]
    return source, np.sort(np.concatenate(rows))


def balance(options):
    from imblearn.over_sampling import SMOTE

    from rcdp_hpc.data.balancing.smote import draw_smote, plan_smote
    from rcdp_hpc.data.rows import make_samples
    from rcdp_hpc.data.shards.storage import Storage

    source, rows = unbalanced_mnist(options.mnist)
    y = source.train.y[rows]
    flat = source.samples(rows).reshape(len(rows), -1)
    members = [rows[y == label] for label in range(10)]

    def ours():
        tables = plan_smote(source.samples, members, draw_smote(members, source.classes, 7, 1))
        made = [make_samples(source, table, Storage()) for table in tables]
        return np.concatenate([source.samples(rows), *made])

    def theirs():
        return SMOTE(k_neighbors=7, random_state=1).fit_resample(flat, y)[0]

    assert ours().shape[0] == theirs().shape[0]
    for _ in range(options.repeats):
        for name, work in (("rcdp_hpc", ours), ("imbalanced-learn", theirs)):
            report(what="balance", who=name, rows=len(rows), seconds=timed(work, 1))


def read(options):
    from rcdp_hpc.config import parse_config
    from rcdp_hpc.data.prepare import prepare_shards
    from rcdp_hpc.data.shards.reader import ShardReader

    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        place = Path(folder)
        x = np.random.default_rng(0).integers(0, 256, (options.rows, 32, 32, 3), dtype=np.uint8)
        np.savez(place / "x.npz", x=x, y=np.arange(options.rows) % 10)
        for storage, compression in (("uint8", "none"), ("float32", "none"), ("uint8", "lzf"), ("uint8", "gzip")):
            data = {"source": "npz", "path": str(place / "x.npz"), "balance": "none", "storage": storage,
                    "compression": compression}  # fmt: skip
            config = parse_config({"data": data, "run": {"progress": False}}, "benchmark")
            name = f"{storage}-{compression}"
            prepare_shards(config, place / name)
            shards = ShardReader(place / name, verify=False)
            total, block = shards.rows("train"), 4096
            content = shards.columns("train", 0, total, ("x",))["x"]
            with h5py.File(place / "one.h5", "w") as file:
                file["x"] = x[:total] if storage == "uint8" else content
            del content

            def read_shards(shards=shards, total=total, block=block):
                for start in range(0, total, block):
                    shards.stored("train", start, min(start + block, total))

            def read_dataset(total=total, block=block):
                with h5py.File(place / "one.h5") as file:
                    for start in range(0, total, block):
                        file["x"][start : start + block]

            read_shards(), read_dataset()
            size = total * 3072 * (1 if storage == "uint8" else 4) / 2**20
            ours, theirs = [], []
            for _ in range(options.repeats):
                ours.append(timed(read_shards, 1))
                theirs.append(timed(read_dataset, 1))
            fast, slow = statistics.median(ours), statistics.median(theirs)
            on_disk = sum(file.stat().st_size for file in (place / name).glob("*.h5")) / 2**20
            report(what="read", storage=storage, compression=compression,
                 shards_mib_s=round(size / fast), contiguous_mib_s=round(size / slow), share=round(slow / fast, 2),
                 mib_on_disk=round(on_disk))  # fmt: skip


STREAM = """
import sys
from pathlib import Path
from rcdp_hpc.config import parse_config
from rcdp_hpc.data.prepare import prepare_shards
data = {"source": "npy", "path": sys.argv[1], "memory_budget": 1024}
prepare_shards(parse_config({"data": data, "run": {"progress": False}}, "benchmark"), Path(sys.argv[2]))
# Unlike ru_maxrss, VmHWM does not include the process from which this one was forked.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def stream(options):
    for gib in options.gib:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            source = Path(folder, "source")
            rows = write_large(source, gib)
            started = time.perf_counter()
            child = subprocess.Popen(
                [sys.executable, "-c", STREAM, source, Path(folder, "shards")], stdout=subprocess.PIPE
            )
            peak = int(child.stdout.read())
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - started
            written = sum(file.stat().st_size for file in Path(folder, "shards").glob("*.h5"))
            report(what="stream", gib=gib, rows=rows, status=status, seconds=round(seconds, 1),
                 peak_gib=round(peak / 2**20, 3), written_gib=round(written / 2**30, 2),
                 cpu_seconds=round(usage.ru_utime + usage.ru_stime, 1))  # fmt: skip


def write_large(folder, gib, side=256):
    """Write float32 images of 256 KiB in ten classes of decreasing size, down to a third."""
    folder.mkdir()
    rows = int(gib * 2**30) // (4 * side * side)
    shares = np.linspace(1, 0.33, 10)
    y = np.random.default_rng(0).choice(10, rows, p=shares / shares.sum())
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, side, side))
    generator = np.random.default_rng(1)
    for start in range(0, rows, 256):
        stop = min(start + 256, rows)
        x[start:stop] = generator.random((stop - start, side, side), np.float32) + y[start:stop, None, None]
    x.flush()
    np.save(folder / "y.npy", y)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("balance", "read", "stream"))
    parser.add_argument("--mnist", help="folder of MNIST's IDX files")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--gib", type=float, nargs="+", default=[1.5, 3, 6])
    parser.add_argument("--scratch", help="folder for large temporary files; default: that of the system")
    options = parser.parse_args()
    report(what="machine", cores=len(os.sched_getaffinity(0)), python=sys.version.split()[0], numpy=np.__version__)
    {"balance": balance, "read": read, "stream": stream}[options.what](options)
    report(what="peak memory of this process", gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3))


if __name__ == "__main__":
    main()
