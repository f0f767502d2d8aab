"""The commands of ``rcdp``: each calls one function of the package and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import io
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcdp_hpc.cli.checks import check_output_file, check_output_folder, check_reachable, existing_run
from rcdp_hpc.cli.code import settle_code
from rcdp_hpc.cli.hints import after_trial, what_next
from rcdp_hpc.cli.parser import DEFAULT_FOLDS, PAPER, build_parser, parse
from rcdp_hpc.config import (
    STAGES,
    Config,
    commented_toml,
    flatten,
    load_config,
    parse_overrides,
    to_tree,
    with_settings,
)
from rcdp_hpc.config.paths import absolute_path, with_absolute_paths
from rcdp_hpc.errors import EXIT_DAMAGED, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, InputError, RcdpError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.command_line import running
from rcdp_hpc.runtime.job import run_on_all_ranks
from rcdp_hpc.runtime.logs import log_to_terminal
from rcdp_hpc.runtime.os_errors import os_errors_explained
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.stage_record import edited_settings
from rcdp_hpc.runtime.streams import is_closed_pipe, tolerant_streams
from rcdp_hpc.runtime.text import message_lines, plain_line, shell_word
from rcdp_hpc.runtime.user_code import leave_out_working_directory

if TYPE_CHECKING:
    from rcdp_hpc.deploy.sums.summed_model import SumsResult

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1, 2, 3 or 75 (see `rcdp_hpc.errors`)."""
    _relax_gc()
    with tolerant_streams() as (stdout, _):
        rank = detect().rank
        # Only rank 0 prints help and usage errors.
        with _silent() if rank else contextlib.nullcontext():
            options = parse(arguments)
        if rank and options.command in FOR_RANK_0:
            return EXIT_DONE
        quiet, prints_file = getattr(options, "quiet", False), options.command in PRINTS_FILE
        log_to_terminal(is_root=rank == 0, quiet=quiet, to_stderr=prints_file)
        with running(["rcdp", *(sys.argv[1:] if arguments is None else arguments)]):
            code = _run(options, rank)
        stdout.flush()
        if options.command in PRINTERS and stdout.failure and not is_closed_pipe(stdout.failure):
            log.error("the output is incomplete: stdout cannot be written (%s)", stdout.failure.strerror)
            return code or EXIT_FAILED
        return code


def _run(options: argparse.Namespace, rank: int) -> int:
    try:
        if options.command not in WITH_CHECKPOINTS:
            signals.exit_on_signals()
        with os_errors_explained():
            _check_paths(options)
            return COMMANDS[options.command](options)
    except RcdpError as error:
        if rank == 0:
            log.error("%s", error)
            signals.report_end(message_lines(error) if error.lines else plain_line(error))
        else:
            # A launcher ends the job when the first rank exits, so rank 0 gets time to report the error.
            time.sleep(1)
        return error.exit_code
    except KeyboardInterrupt:
        if rank == 0:
            log.error("interrupted by Ctrl-C: complete results are kept, and the same command continues from them.")
        return EXIT_INTERRUPTED
    except signals.EndedBySignal as ended:
        if rank == 0:
            log.error("ended by %s: no incomplete results remain. Start the same command again.", ended)
        return ended.exit_code
    finally:
        signals.ignore_until_exit()


def _check_paths(options: argparse.Namespace) -> None:
    """Raise an `InputError` before any work if an output cannot be written."""
    for value in vars(options).values():
        if isinstance(value, Path):
            check_reachable(value)
    if getattr(options, "out", None) is not None:
        check_output_folder("--out", options.out)
    if options.command == "compress":
        check_output_folder("--to", options.to)
    elif getattr(options, "to", None) is not None:
        check_output_file("--to", options.to)
    if getattr(options, "picture", None) is not None:
        check_output_file("--picture", options.picture, (".png",))
    if options.command in ("verify", "inspect", "report"):
        existing_run(options.run)
    if options.command == "report" and options.to is not None:
        check_output_file("--to", options.to, (".html", ".htm"))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield


def _relax_gc() -> None:
    """Make full garbage collections rare, which saves a third of the time of start and exit.

    torch creates a million objects that are never freed. Python's full collections scan all of them repeatedly during
    the imports, and twice at exit. Collections of young objects are unchanged.
    """
    gc.set_threshold(*gc.get_threshold()[:2], 1000)
    atexit.register(gc.freeze)


def _run_command(options: argparse.Namespace) -> int:
    """Run stages, on one rank or many: prepare, search, train, evaluate, run."""
    signals.install()
    stall_seconds = _configuration(options).run.stall_seconds
    return run_on_all_ranks(partial(_run_on_ranks, options), stall_seconds, options.quiet)


def _search_command(options: argparse.Namespace) -> int:
    """Run the stage search; with --report draw the results so far instead."""
    if not options.report:
        return _run_command(options)
    signals.exit_on_signals()
    # Only rank 0 draws, since all ranks would write the same files.
    if detect().rank:
        return EXIT_DONE
    try:
        from rcdp_hpc.evaluation.search_pictures import draw_search
    except ImportError as error:
        raise InputError(
            f"--report needs matplotlib, which cannot be imported ({error}): pip install 'rcdp_hpc[report]'."
        ) from None
    for path in draw_search(RunDirectory(options.out).search):
        log.info("%s", path)
    return EXIT_DONE


def _run_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.pipeline.comparison_of_runs import check_evaluated, compare_runs
    from rcdp_hpc.pipeline.stages import run_stages

    signals.raise_if_stopped_before(comm)
    _refuse_different_settings(options, comm)
    trial = options.command == "run" and options.trial
    against = options.against if options.command == "evaluate" else None
    if against is not None:
        check_evaluated(against, comm)
    config, out = run_on_root(comm, lambda: _trial(options) if trial else (_trusted(options), options.out))
    stages = STAGES if options.command == "run" else (options.command,)
    run_stages(stages, config, out, comm, options.restart, options.allow_code, progress=True)
    if against is not None:
        compare_runs(out, against, comm)
    comm.barrier()
    if comm.is_root and trial:
        print(after_trial(options.config, options.out, out), flush=True)
    elif comm.is_root and not options.quiet:
        config = RunDirectory(options.out).config()
        print(what_next(options.command, options.out, config, options.config), flush=True)
    return EXIT_DONE


def _crossvalidate(options: argparse.Namespace) -> int:
    signals.install()
    stall_seconds = _configuration(options).run.stall_seconds
    return run_on_all_ranks(partial(_crossvalidate_on_ranks, options), stall_seconds, options.quiet)


def _crossvalidate_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.pipeline.cross_validation import crossvalidate

    signals.raise_if_stopped_before(comm)
    _refuse_different_settings(options, comm)

    def configuration() -> Config:
        config = _trusted(options)
        folds = {"data.folds": options.folds or config.data.folds or DEFAULT_FOLDS, "data.fold": 0}
        return with_settings(config, folds, where=str(options.config or options.out))

    config = run_on_root(comm, configuration)
    crossvalidate(config, options.out, comm, options.fold, options.restart, options.allow_code, progress=True)
    if comm.is_root and not options.quiet:
        print(f"\nnext:\n  rcdp status {shell_word(options.out)}", flush=True)
    return EXIT_DONE


def _balance_check(options: argparse.Namespace) -> int:
    from rcdp_hpc.cli.balance import balance_check_on_ranks

    def configuration() -> Config:
        config = _load(options.config, options.set)
        settle_code(config, Path(options.config), True, options.set, options.allow_code)
        return config

    stall_seconds = _load(options.config, options.set).run.stall_seconds
    return run_on_all_ranks(partial(balance_check_on_ranks, options, configuration), stall_seconds, options.quiet)


def _compare(options: argparse.Namespace) -> int:
    signals.install()
    if options.config == PAPER:
        from rcdp_hpc.cli.paper import compare_paper_on_ranks, refuse_other_options

        refuse_other_options(options)
        return run_on_all_ranks(partial(compare_paper_on_ranks, options), 0, options.quiet)
    for option in ("mnist", "cifar10"):
        if getattr(options, option) is not None:
            raise InputError(f"--{option} belongs to rcdp compare {PAPER}; other comparisons take data.path")
    with _no_unused_keys():
        stall_seconds = _configuration(options).run.stall_seconds
        return run_on_all_ranks(partial(_compare_on_ranks, options), stall_seconds, options.quiet)


@contextlib.contextmanager
def _no_unused_keys() -> Iterator[None]:
    """Suppress warnings of keys without an effect, which methods of a comparison may use."""
    usage = logging.getLogger("rcdp_hpc.config.usage")
    level = usage.level
    usage.setLevel(logging.ERROR)
    try:
        yield
    finally:
        usage.setLevel(level)


def _compare_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.comparison.compare import compare
    from rcdp_hpc.comparison.settings import with_full_search

    signals.raise_if_stopped_before(comm)
    _refuse_different_settings(options, comm)

    def configuration() -> Config:
        config = _trusted(options)
        return with_full_search(config) if options.full else config

    config = run_on_root(comm, configuration)
    part = {"cell": options.cell, "data_only": options.data_only}
    compare(config, options.out, comm, restart=options.restart, allow_code=options.allow_code, progress=True, **part)
    if comm.is_root and not options.quiet:
        print(f"\nnext:\n  rcdp status {shell_word(options.out)}", flush=True)
    return EXIT_DONE


def _configuration(options: argparse.Namespace) -> Config:
    """Return the configuration that the command names, or that of the run directory, with --set applied."""
    run = RunDirectory(Path(options.out))
    if options.config is None and not run.config_file.exists():
        run.config()
    return _load(options.config or str(run.config_file), options.set)


def _refuse_different_settings(options: argparse.Namespace, comm: Communicator) -> None:
    """Raise an `InputError` on all ranks if they were started with different settings. Collective.

    A configuration in the run directory is not compared: on a network file system, ranks may see different files at one
    moment, and only rank 0 reads it.
    """
    from rcdp_hpc.pipeline.same_settings import refuse_different_settings

    given = parse_overrides(options.set) if options.config is None else to_tree(_configuration(options))
    refuse_different_settings(comm, given)


def _report_edited(options: argparse.Namespace, run: RunDirectory) -> None:
    """Warn if the command uses the configuration of a run, and it was edited since the stages used it."""
    if options.config is None and run.config_file.exists():
        for line in edited_settings(run):
            log.warning("%s was %s", run.config_file, line)


def _trusted(options: argparse.Namespace) -> Config:
    """Return the configuration as `_configuration`; raise an `InputError` if it names code that is not allowed."""
    config = _configuration(options)
    file = RunDirectory(options.out).config_file if options.config is None else Path(options.config)
    settle_code(config, file, options.config is not None, options.set, options.allow_code)
    return config


def _trial(options: argparse.Namespace) -> tuple[Config, Path]:
    from rcdp_hpc.pipeline.trial import trial_folder, trial_of

    config = trial_of(_trusted(options))
    return config, trial_folder(options.out)


def _init(options: argparse.Namespace) -> int:
    from rcdp_hpc.cli.init import write_init

    print(write_init(options.data, options.to), end="" if options.to is None else "\n")
    return EXIT_DONE


def _load(name: str, settings: Sequence[str]) -> Config:
    # Later commands may start in other working directories.
    return with_absolute_paths(load_config(name, settings))


def _stall_seconds(path: Path) -> int:
    """Return ``run.stall_seconds`` of a run directory; the default if there is no configuration."""
    run = RunDirectory(path)
    if detect().size == 1 or not run.config_file.is_file():
        return Config().run.stall_seconds
    return run.config().run.stall_seconds


def _predict(options: argparse.Namespace) -> int:
    return run_on_all_ranks(partial(_predict_on_ranks, options), _stall_seconds(options.run), options.quiet)


def _predict_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.pipeline.requirements import require_torch

    leave_out_working_directory()
    from rcdp_hpc.deploy.open_model import is_exported

    if not is_exported(options.run):
        require_torch()
    from rcdp_hpc.deploy.predict import predict
    from rcdp_hpc.deploy.reading import model_and_reading, stated_prediction

    settings, prediction = agree(comm, lambda: stated_prediction(options.set))
    model, reading = agree(comm, lambda: model_and_reading(options.run, settings))
    counts = predict(
        model,
        options.samples,
        options.to,
        reading,
        comm,
        show_progress=not options.quiet,
        any_scale=options.any_scale,
        allow_code=options.allow_code,
        output_format=options.format or "",
        prediction=prediction,
    )
    if comm.is_root:
        log.info("%s", "  ".join(f"{name}: {count}" for name, count in counts.items()))
    return EXIT_DONE


def _compress(options: argparse.Namespace) -> int:
    signals.install()
    return run_on_all_ranks(partial(_compress_on_ranks, options), _stall_seconds(options.run), options.quiet)


def _compress_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.pipeline.compression import compress

    signals.raise_if_stopped_before(comm)

    def changes() -> dict[str, Any]:
        run = RunDirectory(options.run)
        settle_code(run.config(), run.config_file, False, options.set, options.allow_code)
        epochs = {"training.epochs": options.epochs} if options.epochs else {}
        return {**epochs, **flatten(parse_overrides(options.set))}

    result = compress(
        options.run, options.to, comm, keep=options.keep, unit=options.unit, bits=options.bits, distil=options.distil,
        changes=run_on_root(comm, changes), allow_code=options.allow_code, progress=not options.quiet,
    )  # fmt: skip
    if comm.is_root and not options.quiet:
        print("\n" + "\n".join(result.lines()), flush=True)
    return EXIT_DONE


def _average(options: argparse.Namespace) -> int:
    from rcdp_hpc.pipeline.requirements import require_torch

    require_torch()
    from rcdp_hpc.deploy.average import average

    average(options.models, options.to, options.rows)
    return EXIT_DONE


def _export(options: argparse.Namespace) -> int:
    from rcdp_hpc.pipeline.requirements import require_torch

    require_torch()
    from rcdp_hpc.deploy.export.export import export

    exported = export(options.run, options.to, not options.no_check, not options.uncalibrated)
    for file in exported.files:
        log.info("wrote %s", file)
    log.info("%s", exported.summary)
    return EXIT_DONE


def _merge(options: argparse.Namespace) -> int:
    from rcdp_hpc.pipeline.requirements import require_torch

    require_torch()
    from rcdp_hpc.deploy.sums.merge import merge_models

    return _report_sums(merge_models(options.models, options.to))


def _forget(options: argparse.Namespace) -> int:
    from rcdp_hpc.pipeline.requirements import require_torch

    require_torch()
    from rcdp_hpc.deploy.sums.merge import forget_units

    return _report_sums(forget_units(options.model, options.units, options.to))


def _update(options: argparse.Namespace) -> int:
    return run_on_all_ranks(partial(_update_on_ranks, options), _stall_seconds(options.model), options.quiet)


def _update_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.pipeline.requirements import require_torch

    leave_out_working_directory()
    require_torch()
    from rcdp_hpc.deploy.sums.update import update_model

    result = update_model(
        options.model,
        options.data,
        options.to,
        comm,
        options.unit or "",
        options.allow_code,
        progress=not options.quiet,
    )
    return _report_sums(result) if comm.is_root else EXIT_DONE


def _report_sums(result: SumsResult) -> int:
    for file in result.files:
        log.info("wrote %s", file)
    log.info("%s", result.summary)
    return EXIT_DONE


def _verify(options: argparse.Namespace) -> int:
    return run_on_all_ranks(partial(_verify_on_ranks, options), _stall_seconds(options.run))


def _inspect(options: argparse.Namespace) -> int:
    from rcdp_hpc.data.shards.index import load_index
    from rcdp_hpc.data.shards.inspect import describe_shards

    run = RunDirectory(options.run)
    folder = run.shards
    print(describe_shards(folder, options.ranks, run.train / "class_counts.jsonl"))
    if options.picture is not None:
        from rcdp_hpc.evaluation.drawing import draw_class_table

        draw_class_table(load_index(folder)["class_table"], options.picture)
    return EXIT_DONE


def _verify_on_ranks(options: argparse.Namespace, comm: Communicator) -> int:
    from rcdp_hpc.data.shards.verify import check_shards

    report = check_shards(RunDirectory(options.run).shards, progress=True, comm=comm)
    if not comm.is_root:
        return EXIT_DAMAGED if report.findings else EXIT_DONE
    for finding in report.findings:
        log.error("%s", finding)
    for note in report.notes:
        log.warning("%s", note)
    if report.findings:
        return EXIT_DAMAGED
    log.info("all checksums, counts and class proportions are right, and synthetic rows derive from training rows only")
    if report.groups:
        log.info("none of %d groups is on two sides of the split", report.groups)
    return EXIT_DONE


def _status(options: argparse.Namespace) -> int:
    from rcdp_hpc.cli.status import describe

    print(describe(options.run))
    return EXIT_DONE


def _report(options: argparse.Namespace) -> int:
    from rcdp_hpc.cli.runs import reported_run
    from rcdp_hpc.comparison.paper.document import is_experiment, write_document
    from rcdp_hpc.comparison.report.files import is_comparison
    from rcdp_hpc.comparison.report.page import write_comparison_report
    from rcdp_hpc.evaluation.report.write import write_report

    if is_experiment(options.run):
        print(write_document(absolute_path(options.run), options.to))
        return EXIT_DONE
    if is_comparison(options.run):
        path, problems = write_comparison_report(RunDirectory(options.run), options.to)
    else:
        path, problems = write_report(reported_run(options.run), options.to)
    for problem in problems:
        (log.error if problem.damaged else log.warning)("the report is incomplete: %s", problem.message)
    print(path)
    return EXIT_DAMAGED if any(problem.damaged for problem in problems) else EXIT_DONE


def _submit(options: argparse.Namespace) -> int:
    from rcdp_hpc.cluster import submit
    from rcdp_hpc.cluster.array import make_array
    from rcdp_hpc.comparison.job_array import CELLS, cells_array

    run = RunDirectory(absolute_path(options.out))
    array = None
    if options.array == CELLS:
        array = cells_array(_configuration(options))
    elif options.array:
        array = make_array(options.array, lambda name: _load(name, options.set) if name else _configuration(options))
        if array.configs and options.config is not None:
            raise InputError(f"--array {options.array} selects the configurations: leave out {options.config}.")
    config = array.shared if array else _configuration(options)
    _report_edited(options, run)
    jobs = submit.plan_jobs(config, run, options.site, one_job=options.one_job, array=array, extra=options.sbatch)
    print(submit.format_jobs(jobs, run), flush=True)
    if options.dry_run:
        return EXIT_DONE
    tasks = array.configs if array else ()
    submitted = submit.submit_jobs(jobs, config, run, options.site, tasks, _submit_words(options))
    for one in submitted:
        print(f"{one.stage}: job {one.job}")
    print(submit.follow_up_text(run, submitted))
    return EXIT_DONE


def _submit_words(options: argparse.Namespace) -> list[str]:
    """Return the command that submits the same jobs again; it names the site file, also if $RCDP_SITE chose it."""
    words = ["rcdp", "submit", *([options.config] if options.config else []), f"--out={options.out}"]
    words += [f"--site={options.site}", *(["--one-job"] if options.one_job else [])]
    words += [f"--array={options.array}"] if options.array else []
    return words + [f"--set={setting}" for setting in options.set] + [f"--sbatch={option}" for option in options.sbatch]


def _plan(options: argparse.Namespace) -> int:
    from rcdp_hpc.pipeline.requirements import require_torch

    require_torch()
    from rcdp_hpc.cluster.plan import format_plan

    # The log of the calibration run would hide the plan: only its warnings are shown.
    log_to_terminal(is_root=True, quiet=True)
    run = RunDirectory(absolute_path(options.out)) if options.out else None
    if options.config is None and run is None:
        raise InputError("rcdp plan needs CONFIG, or --out with an earlier run.")
    config = _load(options.config, options.set) if options.config else _configuration(options)
    if run is not None:
        _report_edited(options, run)
    print(format_plan(config, run, options.site))
    return EXIT_DONE


def _doctor(options: argparse.Namespace) -> int:
    from rcdp_hpc import doctor

    return doctor.run(json=options.json)


def _completion(options: argparse.Namespace) -> int:
    from rcdp_hpc.cli.completion import completion_script

    print(completion_script(options.shell, *build_parser()), end="")
    return EXIT_DONE


def _config(options: argparse.Namespace) -> int:
    print(commented_toml(load_config(options.profile, options.set)), end="")
    return EXIT_DONE


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    **dict.fromkeys(("run", "prepare", "train", "evaluate"), _run_command),
    "search": _search_command,
    "crossvalidate": _crossvalidate,
    "balance-check": _balance_check,
    "compare": _compare,
    "predict": _predict,
    "compress": _compress,
    "export": _export,
    "average": _average,
    "merge": _merge,
    "update": _update,
    "forget": _forget,
    "verify": _verify,
    "status": _status,
    "report": _report,
    "submit": _submit,
    "plan": _plan,
    "inspect": _inspect,
    "doctor": _doctor,
    "init": _init,
    "config": _config,
    "completion": _completion,
}
# Commands that stop with a checkpoint after a signal. The others end at once.
WITH_CHECKPOINTS = ("run", "prepare", "search", "train", "evaluate", "crossvalidate", "compare", "compress")
# Commands that only rank 0 runs.
FOR_RANK_0 = (
    "export", "average", "merge", "forget", "status", "report", "submit", "plan", "inspect", "init", "config",
    "completion",
)  # fmt: skip
# Commands whose result is their output.
PRINTERS = ("status", "report", "plan", "inspect", "doctor", "init", "config", "completion")
# Commands that print a file. Their messages go to stderr.
PRINTS_FILE = ("init", "config", "completion")
