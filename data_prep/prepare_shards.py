#!/usr/bin/env python3
"""Prepare shards offline, without MPI, torch, Horovod or a GPU.

    python data_prep/prepare_shards.py CONFIG --out RUN [--set section.key=value ...] [--restart]

It writes the same bytes as `rcdp prepare`. The later stages read them from RUN.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

if importlib.util.find_spec("rcdp_hpc") is None:
    # The checkout is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

PACKAGES = (
    "numpy scipy scikit-learn 'imbalanced-learn>=0.14,<0.15' h5py joblib tqdm pydantic tomlkit psutil threadpoolctl"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare shards, and return the exit code: 0 done, 2 wrong input, 3 damaged data, 75 stopped, 1 anything else."""
    options = parse(arguments)
    try:
        from rcdp_hpc.runtime.streams import tolerant_streams
    except ModuleNotFoundError as error:
        return report_missing(error)
    with tolerant_streams():
        return run(options)


def run(options: argparse.Namespace) -> int:
    try:
        from rcdp_hpc.errors import EXIT_DONE, RcdpError
        from rcdp_hpc.pipeline.stages import prepare
        from rcdp_hpc.runtime import signals
        from rcdp_hpc.runtime.comm.single import SingleProcess
        from rcdp_hpc.runtime.logs import log_to_terminal
    except ModuleNotFoundError as error:
        return report_missing(error)
    signals.install()
    log_to_terminal(is_root=True, quiet=options.quiet)
    try:
        # A single process, also inside a Slurm allocation.
        prepare(configuration(options), options.out, SingleProcess(), options.restart)
    except RcdpError as error:
        report_error(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        return report_missing(error)
    return EXIT_DONE


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Prepare shards offline, without MPI, torch, Horovod or a GPU.")
    parser.add_argument("config", metavar="CONFIG", help="a TOML file or a shipped profile (digits, mnist, ...)")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="the run directory (shards: RUN/shards)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting (repeatable)")
    parser.add_argument("--restart", action="store_true", help="prepare again, and replace an earlier preparation")
    parser.add_argument("--quiet", action="store_true", help="show only warnings and errors")
    return parser.parse_args(arguments)


def configuration(options: argparse.Namespace):
    from rcdp_hpc.config import load_config

    return load_config(options.config, options.set)


def report_missing(error: ModuleNotFoundError) -> int:
    return report_error(f"the Python package {error.name} is missing; install with: pip install {PACKAGES}")


def report_error(message: str) -> int:
    print(f"prepare_shards: error: {message}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
