"""What may be typed behind ``rcdp``: commands and their options."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import rcdp_hpc
from rcdp_hpc.config import profile_names

DEFAULT_FOLDS = 5


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what was typed; ``command`` is the command's name.

    Raises
    ------
    SystemExit
        With code 2 and a message, where it makes no sense; with 0 after the help.
    """
    parser = _parser()
    options, strays = parser.parse_known_args(arguments)
    if strays:
        settings = [word for word in strays if "=" in word and not word.startswith("-")]
        hint = " (every setting needs a --set of its own)" if settings else ""
        parser.error(f"unrecognized arguments: {' '.join(strays)}{hint}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rcdp",
        description="Reservoir computing, data parallel: balance, search and train on Slurm/MPI clusters.",
        epilog="Exit codes: 0 done, 2 wrong input or configuration, 3 damaged data, 75 stopped with a checkpoint "
        "(start again to go on), 1 anything else.",
    )
    parser.add_argument("--version", action="version", version=f"rcdp_hpc {rcdp_hpc.__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _add_stages(commands)
    _add_crossvalidate(commands)
    _add_tools(commands)
    return parser


def _add_stages(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    meanings = {
        "run": "all four stages in one job",
        "prepare": "balance the data set and write its shards",
        "search": "search for the reservoir and its readout on all ranks",
        "train": "train the readout on all ranks",
        "evaluate": "evaluate the trained model on the test split",
    }
    for stage, meaning in meanings.items():
        parser = commands.add_parser(stage, help=meaning, description=meaning.capitalize() + ".")
        _add_config(parser)
        _add_set(parser)
        parser.add_argument(
            "--restart", action="store_true", help="put earlier results of this stage aside and start it over"
        )
        parser.add_argument("--quiet", action="store_true", help="show warnings and errors alone")
        if stage == "search":
            parser.add_argument(
                "--report",
                action="store_true",
                help="search nothing: draw what a search found so far, beside its files",
            )


def _add_crossvalidate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("crossvalidate", help="all stages for each fold of the data, and the results together")
    _add_config(parser)
    _add_set(parser)
    parser.add_argument(
        "--folds", type=int, default=0, metavar="K", help=f"folds; default: data.folds, or {DEFAULT_FOLDS}"
    )
    parser.add_argument("--fold", type=int, default=0, metavar="I", help="this fold alone, from 1, for arrays of jobs")
    parser.add_argument("--restart", action="store_true", help="put earlier results aside and start over")
    parser.add_argument("--quiet", action="store_true", help="show warnings and errors alone")


def _add_tools(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser("predict", help="labels and probabilities for new samples, on one rank or many")
    predict.add_argument("run", type=Path, metavar="RUN", help="a run directory or a model.pt")
    predict.add_argument(
        "samples",
        type=Path,
        help="npz, npy, HDF5, csv, parquet, .ts or IDX file, an image, a folder of images, or what data.source reads",
    )
    predict.add_argument(
        "--to", type=Path, required=True, metavar="FILE", help="output file: .csv, .npz, .parquet or .jsonl"
    )
    predict.add_argument(
        "--set", action="append", default=[], metavar="data.KEY=VALUE",
        help="change how the samples are read, as in data.delimiter=';' (may be repeated)",
    )  # fmt: skip
    predict.add_argument(
        "--any-scale", action="store_true", help="predict samples on another scale than the training data"
    )
    predict.add_argument("--quiet", action="store_true", help="show warnings and errors alone")
    for name, meaning in (
        ("verify", "re-check every checksum, count and proportion of the shards"),
        ("status", "what each stage has done or how far it is, and what to type next"),
    ):
        parser = commands.add_parser(name, help=meaning)
        parser.add_argument("run", type=Path, metavar="RUN", help="the run directory")
    _add_submit(commands)
    inspect = commands.add_parser("inspect", help="the class table before and after balancing, per shard and rank")
    inspect.add_argument("run", type=Path, metavar="RUN", help="the run directory")
    inspect.add_argument("--ranks", type=int, default=0, metavar="R", help="show what each of R ranks reads, too")
    inspect.add_argument("--picture", type=Path, metavar="FILE", help="draw the classes into this PNG file")
    doctor = commands.add_parser("doctor", help="what is installed here, and what is missing for which stage")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    config = commands.add_parser("config", help="print a commented configuration to start from")
    config.add_argument("profile", nargs="?", default="digits", help=f"{', '.join(profile_names())}, or a TOML file")
    _add_set(config)


def _add_submit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from rcdp_hpc.cluster.scripts import DEFAULT_SITE

    parser = commands.add_parser("submit", help="write the jobs of a configuration and hand them to Slurm")
    _add_config(parser)
    _add_set(parser)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--chain", action="store_true", help="a job a stage, each after the one before it (the default)")
    kind.add_argument("--one-job", action="store_true", help="all stages in one job")
    kind.add_argument(
        "--array", metavar="seeds=N|configs=FOLDER|folds=K",
        help="a task of a job array for each of N seeds, or of the TOML files in a folder, over the same shards; or "
        "for each fold of a cross-validation",
    )  # fmt: skip
    site = Path(os.environ.get("RCDP_SITE", DEFAULT_SITE))
    parser.add_argument(
        "--site", type=Path, default=site, metavar="FILE", help=f"your site's settings; default: {site}"
    )
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION",
        help="one more option of sbatch for every job, as in --sbatch=--time=10 (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show everything, write and submit nothing")
    plan = commands.add_parser("plan", help="time, memory and disk of each stage, and the lines for Slurm that follow")
    _add_config(plan, out_required=False)
    _add_set(plan)


def _add_config(parser: argparse.ArgumentParser, out_required: bool = True) -> None:
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG",
        help=f"a TOML file or a profile ({', '.join(profile_names())}); default: the run directory's own",
    )  # fmt: skip
    parser.add_argument("--out", required=out_required, type=Path, metavar="RUN", help="the run directory")


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one setting (may be repeated)"
    )
