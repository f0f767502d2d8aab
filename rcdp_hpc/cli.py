"""The command line: ``rcdp COMMAND``. Parses, calls one function, turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import io
import logging
import os
import shlex
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import rcdp_hpc
from rcdp_hpc.config import (
    STAGES,
    Config,
    DataSection,
    commented_toml,
    load_config,
    parse_config,
    profile_names,
    to_tree,
)
from rcdp_hpc.errors import EXIT_DAMAGED, EXIT_DONE, EXIT_FAILED, InputError, RcdpError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.collective import agree, run_on_root
from rcdp_hpc.runtime.comm import Communicator
from rcdp_hpc.runtime.horovod import is_lost_rank
from rcdp_hpc.runtime.launch import detect
from rcdp_hpc.runtime.logs import drop_unwritten, log_to_terminal
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.world import connect

log = logging.getLogger(__name__)

DEFAULT_FOLDS = 5

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1, 2, 3 or 75 (see `rcdp_hpc.errors`)."""
    rank = detect().rank
    _look_for_garbage_less_often()
    # One rank's word on a mistyped command is enough.
    with contextlib.redirect_stderr(io.StringIO()) if rank else contextlib.nullcontext():
        options = _parsed(arguments)
    if rank and options.command not in (_run_command, _crossvalidate, _search_command, _verify, _predict):
        return EXIT_DONE
    log_to_terminal(is_root=rank == 0, quiet=getattr(options, "quiet", False))
    command: Command = options.command
    try:
        return command(options)
    except RcdpError as error:
        if rank == 0:
            log.error("%s", error)
        else:
            # Launchers end the job when the first rank leaves: let rank 0 have its say before.
            time.sleep(1)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        signals.leave()
        drop_unwritten()


def _look_for_garbage_less_often() -> None:
    """Spare every rank a third of its start and end: torch loads a million objects that stay.

    Python's collector looks through all of them again and again while they come, and twice at the end, when the memory
    goes anyway. Young objects are looked at as ever.
    """
    gc.set_threshold(*gc.get_threshold()[:2], 1000)
    atexit.register(gc.freeze)


def _run_command(options: argparse.Namespace) -> int:
    """Stages that may run on many ranks: prepare, search, train, evaluate, run."""
    signals.install()
    return _on_all_ranks(options, _together, _configuration(options).run.stall_seconds)


def _on_all_ranks(
    options: argparse.Namespace,
    work: Callable[[argparse.Namespace, Communicator], int],
    stall_seconds: int = 600,
) -> int:
    """Run `work` on every rank; in an elastic run again, where a rank was lost, on those that are left."""
    if not detect().elastic:
        return _in_one_world(options, work, stall_seconds)
    from rcdp_hpc.runtime.elastic import run_elastic

    quiet = getattr(options, "quiet", False)
    return run_elastic(
        lambda: _in_one_world(options, work, stall_seconds),
        stall_seconds,
        at_start=lambda: log_to_terminal(detect().rank == 0, quiet),
    )


def _in_one_world(
    options: argparse.Namespace, work: Callable[[argparse.Namespace, Communicator], int], stall_seconds: int
) -> int:
    """Run `work` on every rank; where it fails on one alone, end the job."""
    comm = connect(stall_seconds)
    try:
        return work(options, comm)
    except RcdpError as error:
        if error.agreed or comm.size == 1:
            raise
        log.error("rank %d: %s", comm.rank, error)
        comm.abort(error.exit_code)
    except Exception as error:
        if is_lost_rank(error):
            if detect().elastic:
                raise
            log.error("%s", _lost(comm, stall_seconds))
            comm.abort(EXIT_FAILED)
        # Not an error we know how to explain: one traceback, from the rank it happened on, and no rank left waiting.
        log.error("rank %d of %d failed:\n%s", comm.rank, comm.size, traceback.format_exc())
        if comm.size == 1:
            return EXIT_FAILED
        comm.abort(EXIT_FAILED)
    finally:
        comm.close()


def _lost(comm: Communicator, stall_seconds: int) -> str:
    return (
        f"rank {comm.rank} of {comm.size}: Horovod has ended, because a rank left, or was missing from a collective "
        f"for {stall_seconds} s (run.stall_seconds). Horovod's own lines above name it ('Missing ranks') or its error. "
        "See what that rank or its node did, and start again: the job goes on from its last checkpoint."
    )


def _search_command(options: argparse.Namespace) -> int:
    """Run the stage search, or with --report draw what it has found so far."""
    if not options.report:
        return _run_command(options)
    try:
        from rcdp_hpc.evaluation.search_pictures import draw_search
    except ImportError as error:
        raise InputError(
            f"--report draws with matplotlib, which cannot be imported ({error}). Run `make setup`."
        ) from None
    for path in draw_search(RunDirectory(options.out).search):
        log.info("%s", path)
    return EXIT_DONE


def _together(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.pipeline import run_stages

    config = run_on_root(comm, lambda: _configuration(options))
    stages = STAGES if options.stage == "run" else (options.stage,)
    run_stages(stages, config, options.out, comm, options.restart)
    comm.barrier()
    if comm.is_root and not options.quiet:
        print(_what_next(options, config), flush=True)
    return EXIT_DONE


def _crossvalidate(options: argparse.Namespace) -> int:
    signals.install()
    return _on_all_ranks(options, _crossvalidate_together, _configuration(options).run.stall_seconds)


def _crossvalidate_together(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.folds import crossvalidate

    def configuration() -> Config:
        config = _configuration(options)
        tree = to_tree(config)
        tree["data"] |= {"folds": options.folds or config.data.folds or DEFAULT_FOLDS, "fold": 0}
        return parse_config(tree, where=str(options.config or options.out))

    crossvalidate(run_on_root(comm, configuration), options.out, comm, options.fold, options.restart)
    if comm.is_root and not options.quiet:
        print(f"\nnext:\n  rcdp status {shlex.quote(str(options.out))}", flush=True)
    return EXIT_DONE


def _configuration(options: argparse.Namespace) -> Config:
    """Return the named configuration, or the run directory's own, with --set applied."""
    run = RunDirectory(Path(options.out))
    if options.config is None and not run.config_file.exists():
        run.config()
    return _load(options.config or str(run.config_file), options.set)


def _load(name: str, settings: Sequence[str]) -> Config:
    config = load_config(name, settings)
    if config.data.path:
        # A run directory is used again from other working directories.
        tree = to_tree(config)
        tree["data"]["path"] = str(Path(config.data.path).expanduser().absolute())
        config = parse_config(tree, where=name)
    return config


def _what_next(options: argparse.Namespace, config: Config) -> str:
    out, after = shlex.quote(str(options.out)), "search" if config.has_search else "train"
    following = {
        "prepare": [f"rcdp verify {out}", f"mpirun -n 2 rcdp {after} --out {out}"],
        "search": [f"mpirun -n 2 rcdp train --out {out}"],
        "train": [f"mpirun -n 2 rcdp evaluate --out {out}"],
        "evaluate": [f"rcdp status {out}", f"rcdp predict {out} SAMPLES.npz --to labels.csv"],
        "run": [
            f"rcdp status {out}                     what each stage did, and the report's files",
            f"rcdp predict {out} X.npz --to y.csv   labels for new samples",
            "rcdp config mnist > my.toml           a commented configuration to make your own",
        ],
    }
    return "\nnext:\n" + "\n".join(f"  {line}" for line in following[options.stage])


def _predict(options: argparse.Namespace) -> int:
    return _on_all_ranks(options, _predict_together)


def _predict_together(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.pipeline import need_torch

    need_torch()
    from rcdp_hpc.deploy.predict import predict

    run = RunDirectory(options.run)

    def model_and_settings() -> tuple[Path, DataSection | None]:
        if not run.path.exists():
            raise InputError(f"{run.path}: no such run directory or model file.")
        if not run.path.is_dir():
            return run.path, None
        return run.model, run.config().data if run.config_file.exists() else None

    model, settings = agree(comm, model_and_settings)
    counts = predict(model, options.samples, options.to, settings, comm, show_progress=not options.quiet)
    if comm.is_root:
        log.info("  ".join(f"{name}: {count}" for name, count in counts.items()))
    return EXIT_DONE


def _verify(options: argparse.Namespace) -> int:
    return _on_all_ranks(options, _verify_together)


def _inspect(options: argparse.Namespace) -> int:
    from rcdp_hpc.data.index import load_index
    from rcdp_hpc.data.inspect import describe_shards

    run = RunDirectory(options.run)
    folder = run.shards
    print(describe_shards(folder, options.ranks, run.train / "class_counts.jsonl"))
    if options.picture is not None:
        try:
            from rcdp_hpc.evaluation.pictures import draw_class_counts
        except ModuleNotFoundError as error:
            raise InputError(f"a picture needs {error.name}, which is missing: pip install matplotlib.") from None
        table = load_index(folder)["class_table"]
        counts = {name: [entry[name] for entry in table] for name in ("before", "after")}
        draw_class_counts([entry["class"] for entry in table], counts, options.picture)
        log.info("drew %s", options.picture)
    return EXIT_DONE


def _verify_together(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.data.verify import verify_shards

    findings = verify_shards(RunDirectory(options.run).shards, progress=True, comm=comm)
    if not comm.is_root:
        return EXIT_DAMAGED if findings else EXIT_DONE
    for finding in findings:
        log.error("%s", finding)
    if findings:
        return EXIT_DAMAGED
    log.info("every checksum, count and proportion holds, and no synthetic row comes from outside the training part")
    return EXIT_DONE


def _status(options: argparse.Namespace) -> int:
    from rcdp_hpc.status import describe_run

    print(describe_run(RunDirectory(options.run)))
    return EXIT_DONE


def _submit(options: argparse.Namespace) -> int:
    from rcdp_hpc.cluster import submit
    from rcdp_hpc.cluster.array import make_array

    run = RunDirectory(options.out.absolute())
    array = None
    if options.array:
        array = make_array(options.array, lambda name: _load(name, options.set) if name else _configuration(options))
        if array.configs and options.config is not None:
            raise InputError(f"--array {options.array} names the configurations: leave {options.config} out.")
    config = array.shared if array else _configuration(options)
    jobs = submit.plan_jobs(config, run, options.site, one_job=options.one_job, array=array, extra=options.sbatch)
    print(submit.show(jobs, run), flush=True)
    if options.dry_run:
        return EXIT_DONE
    tasks = array.configs if array else ()
    submitted = submit.submit_jobs(jobs, config, run, options.site, tasks, _submit_words(options))
    for one in submitted:
        print(f"{one.stage}: job {one.job}")
    print(submit.how_to_follow(run, submitted))
    return EXIT_DONE


def _submit_words(options: argparse.Namespace) -> list[str]:
    """Return the command that submits the same jobs again: a site file from the environment is named, too."""
    words = ["rcdp", "submit", *([options.config] if options.config else []), f"--out={options.out}"]
    words += [f"--site={options.site}", *(["--one-job"] if options.one_job else [])]
    words += [f"--array={options.array}"] if options.array else []
    return words + [f"--set={setting}" for setting in options.set] + [f"--sbatch={option}" for option in options.sbatch]


def _plan(options: argparse.Namespace) -> int:
    from rcdp_hpc.pipeline import need_torch

    need_torch()
    from rcdp_hpc.cluster.plan import plan_text

    # Of a calibration's own story only warnings matter.
    log_to_terminal(is_root=True, quiet=True)
    run = RunDirectory(options.out.absolute()) if options.out else None
    if options.config is None and run is None:
        raise InputError("rcdp plan needs a CONFIG, or --out with an earlier run.")
    config = load_config(options.config, options.set) if options.config else _configuration(options)
    print(plan_text(config, run))
    return EXIT_DONE


def _doctor(options: argparse.Namespace) -> int:
    from rcdp_hpc import doctor

    return doctor.run(json=options.json)


def _config(options: argparse.Namespace) -> int:
    print(commented_toml(load_config(options.profile, options.set)), end="")
    return EXIT_DONE


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
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
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
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
        parser.set_defaults(command=_run_command, stage=stage)
        if stage == "search":
            parser.add_argument(
                "--report",
                action="store_true",
                help="search nothing: draw what a search found so far, beside its files",
            )
            parser.set_defaults(command=_search_command)


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
    parser.set_defaults(command=_crossvalidate)


def _add_tools(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser("predict", help="labels and probabilities for new samples, on one rank or many")
    predict.add_argument("run", type=Path, metavar="RUN", help="a run directory or a model.pt")
    predict.add_argument(
        "samples",
        type=Path,
        help="npz, npy, IDX images, csv, parquet, HDF5, ts, a folder of images, or what data.source of RUN reads",
    )
    predict.add_argument("--to", type=Path, required=True, metavar="FILE", help="what to write: .npz or .csv")
    predict.add_argument("--quiet", action="store_true", help="show warnings and errors alone")
    predict.set_defaults(command=_predict)
    for name, command, meaning in (
        ("verify", _verify, "re-check every checksum, count and proportion of the shards"),
        ("status", _status, "what each stage has done or how far it is, and what to type next"),
    ):
        parser = commands.add_parser(name, help=meaning)
        parser.add_argument("run", type=Path, metavar="RUN", help="the run directory")
        parser.set_defaults(command=command)
    _add_submit(commands)
    inspect = commands.add_parser("inspect", help="the class table before and after balancing, per shard and rank")
    inspect.add_argument("run", type=Path, metavar="RUN", help="the run directory")
    inspect.add_argument("--ranks", type=int, default=0, metavar="R", help="show what each of R ranks reads, too")
    inspect.add_argument("--picture", type=Path, metavar="FILE", help="draw the classes into this PNG file")
    inspect.set_defaults(command=_inspect)
    doctor = commands.add_parser("doctor", help="what is installed here, and what is missing for which stage")
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(command=_doctor)
    config = commands.add_parser("config", help="print a commented configuration to start from")
    config.add_argument("profile", nargs="?", default="digits", help=f"{', '.join(profile_names())}, or a TOML file")
    _add_set(config)
    config.set_defaults(command=_config)


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
    parser.set_defaults(command=_submit)
    plan = commands.add_parser("plan", help="time, memory and disk of each stage, and the lines for Slurm that follow")
    _add_config(plan, out_required=False)
    _add_set(plan)
    plan.set_defaults(command=_plan)


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
