"""``rcdp compare paper``: the tables and figures of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path

from rcdp_hpc.config import parse_overrides
from rcdp_hpc.config.compare import CompareSection
from rcdp_hpc.errors import EXIT_DONE, InputError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator

SEEDS = "compare.seeds"


def refuse_other_options(options: argparse.Namespace) -> None:
    """Raise an `InputError` for options that the experiment does not take, and for folders that are missing."""
    for name in ("cell", "data_only", "restart", "allow_code"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} does not go with rcdp compare paper")
    for name in ("mnist", "cifar10"):
        if getattr(options, name) is None:
            raise InputError(f"rcdp compare paper needs the folders of both data sets: --{name} is missing")
    seeds_of(options)


def seeds_of(options: argparse.Namespace) -> list[int]:
    """Return the seeds of ``--set compare.seeds=...``, by default 1."""
    tree = parse_overrides(options.set)
    others = [key for section, keys in tree.items() for key in keys if f"{section}.{key}" != SEEDS]
    if others:
        raise InputError(
            f"--set {options.set[0]}: rcdp compare paper takes its settings from the paper; only {SEEDS} can be set"
        )
    try:
        return CompareSection.model_validate(tree.get("compare", {})).seeds or [1]
    except ValueError:
        raise InputError(f"{SEEDS}: expected different numbers, as in --set {SEEDS}=1,2,3") from None


def compare_paper_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    """Run or resume the experiment on the ranks of the job, and name its document."""
    from rcdp_hpc.comparison.paper.experiment import compare_paper
    from rcdp_hpc.comparison.paper.scale import FULL, QUICK

    signals.raise_if_stopped_before(comm)
    scale = FULL if options.full else QUICK
    document: Path = compare_paper(
        options.out, options.mnist, options.cifar10, scale, seeds_of(options), comm, progress=True
    )
    if comm.is_root and not options.quiet:
        print(f"\nwrote {document}", flush=True)
    return EXIT_DONE
