"""The parser of the command line: commands, options and their help."""

from __future__ import annotations

import argparse
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import rcdp_hpc
from rcdp_hpc.cli.code import add_allow_code
from rcdp_hpc.cli.examples import EXAMPLES, GENERAL, Example, examples_text
from rcdp_hpc.config import profile_names
from rcdp_hpc.config.choices import USER_CLASS
from rcdp_hpc.config.choices.compression import BITS, UNITS
from rcdp_hpc.config.choices.export_formats import EXPORT_FORMATS
from rcdp_hpc.config.choices.output_formats import OUTPUT_FORMATS
from rcdp_hpc.config.suggest import did_you_mean
from rcdp_hpc.errors import EXIT_DONE, EXIT_INPUT
from rcdp_hpc.runtime.text import plain_line

DEFAULT_FOLDS = 5
# In the place of a configuration, `rcdp compare` takes this word for the tables and figures of the paper.
PAPER = "paper"
SHELLS = ("bash", "zsh", "fish")
Commands = argparse._SubParsersAction
_SUMMED = "a run directory, or a model file, that keeps its sums (readout.keep_sums)"

EXIT_CODES = (
    "exit codes: 0 done, 2 wrong input or configuration, 3 damaged data,\n"
    "75 stopped with a checkpoint (start again to continue), 1 anything else"
)


class Parser(argparse.ArgumentParser):
    """A parser whose help fits 80 columns and ends with examples, and that reports errors in one message.

    Parameters
    ----------
    examples : sequence of (str, str)
        Command lines and their meanings.
    ending : str
        Text after the examples.
    """

    def __init__(self, *, examples: Sequence[Example] = (), ending: str = "", **options: Any) -> None:
        parts = [examples_text(examples) if examples else "", ending]
        if sys.version_info >= (3, 14):  # argparse colours its messages with escape sequences
            options.setdefault("color", False)
        options |= {"formatter_class": _formatter, "epilog": "\n\n".join(filter(None, parts)) or None}
        super().__init__(**options)
        self.examples = examples

    def error(self, message: str) -> NoReturn:
        """Print one message and exit with code 2."""
        missing = message.removeprefix("the following arguments are required: ")
        if missing != message:
            message = f"{missing} is missing"
            if self.examples:
                message += f"; example: {self.examples[0][0]}"
        self.exit(EXIT_INPUT, f"rcdp: error: {plain_line(message)}\nSee: {self.prog} --help\n")


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(80, shutil.get_terminal_size().columns)
    return _Formatter(prog, width=max(40, width), max_help_position=26)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """A formatter that keeps the line breaks of examples and does not break lines at hyphens (mnist-ridge)."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed arguments; the attribute ``command`` is the name of the command.

    Raises
    ------
    SystemExit
        With code 2 after a message about wrong arguments; with code 0 after a help text.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = build_parser()
    if not words:
        parser.print_help()
        parser.exit(EXIT_DONE)
    _refuse_unknown_command(parser, commands, words)
    _refuse_unknown_options(parser, commands, words)
    options, strays = parser.parse_known_args(words)
    if strays:
        commands[options.command].error(f"unexpected argument: {_unexpected(strays)}")
    if options.command == "help":
        _refuse_unknown_command(parser, commands, [options.topic] if options.topic else [])
        (commands[options.topic] if options.topic else parser).print_help()
        parser.exit(EXIT_DONE)
    return options


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of ``rcdp``, and the parsers of its commands by name."""
    parser = Parser(
        prog="rcdp",
        description="Data-parallel reservoir computing on Slurm/MPI clusters: balance data, search\n"
        "for a reservoir, train a classifier.",
        examples=GENERAL,
        ending=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"rcdp_hpc {rcdp_hpc.__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    _add_stages(commands)
    _add_crossvalidate(commands)
    _add_balance_check(commands)
    _add_compare(commands)
    _add_tools(commands)
    return parser, commands.choices  # type: ignore[return-value]


def _refuse_unknown_command(parser: Parser, commands: dict[str, Parser], words: Sequence[str]) -> None:
    if not words or words[0].startswith("-") or words[0] in commands:
        return
    word = words[0]
    if word in profile_names() or word.endswith(".toml"):
        parser.error(f"{word} is not a command; did you mean rcdp run {word}?")
    parser.error(f"{word} is not a command{did_you_mean(word, commands) or '. Commands: ' + ', '.join(commands)}")


def _refuse_unknown_options(parser: Parser, commands: dict[str, Parser], words: Sequence[str]) -> None:
    """Report a mistyped option, which argparse would report as a missing one."""
    used = commands.get(words[0], parser)
    known = [option for action in used._actions for option in action.option_strings]
    for word in words:
        name = word.partition("=")[0]
        if word == "--":
            return
        if not re.match(r"--?[A-Za-z]", word) or any(option.startswith(name) for option in known):
            continue
        hint = did_you_mean(name, known) or f". Options: {', '.join(known)}"
        used.error(f"{used.prog} has no option {name}{hint}")


def _unexpected(words: Sequence[str]) -> str:
    settings = [word for word in words if "=" in word and not word.startswith("-")]
    hint = " (every setting needs its own --set)" if settings else ""
    return f"{' '.join(words)}{hint}"


def path(text: str) -> Path:
    """Return a path of the command line, with ``~`` expanded; refuse empty text, for example of an unset variable."""
    return Path(os.path.expanduser(nonempty(text)))


def nonempty(text: str) -> str:
    """Return text unchanged; refuse empty text."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty; check that all variables in it are set")
    return text


def count(text: str) -> int:
    """Return a number of ranks or folds."""
    if not re.fullmatch(r"\d{1,5}", text.strip()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 99999")
    return int(text)


def _rows(text: str) -> int:
    """Return a number of rows."""
    if not re.fullmatch(r"0*[1-9]\d{0,14}", text.strip()):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of rows from 1")
    return int(text)


def _share(text: str) -> float:
    """Return a share above 0 and at most 1."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share above 0 and at most 1, as in 0.1")
    return share


def _output_format(text: str) -> str:
    """Return the name of an output format, checked."""
    try:
        return OUTPUT_FORMATS.accepted(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _add(commands: Any, name: str, meaning: str) -> Parser:
    """Add a command; `meaning` is one sentence for the help."""
    parser: Parser = commands.add_parser(
        name, help=meaning, description=f"{meaning[0].upper()}{meaning[1:]}.", examples=EXAMPLES.get(name, ())
    )
    return parser


def _add_stages(commands: Any) -> None:
    meanings = {
        "run": "run all four stages in one job",
        "prepare": "balance the data set and write its shards",
        "search": "search for the reservoir and its readout on all ranks",
        "train": "train the readout on all ranks",
        "evaluate": "evaluate the trained model on the test split",
    }
    for stage, meaning in meanings.items():
        parser = _add(commands, stage, meaning)
        _add_config(parser)
        _add_set(parser)
        _add_restart(parser, "put earlier results of this stage aside and start again")
        add_allow_code(parser)
        if stage == "run":
            parser.add_argument(
                "--trial", action="store_true", help="run all stages with a part of the data and epochs, in RUN-trial"
            )
        if stage == "evaluate":
            parser.add_argument(
                "--against", type=path, metavar="RUN", help="also compare with another run on the same test samples"
            )
        if stage == "search":
            parser.add_argument(
                "--report", action="store_true", help="draw the results of the search so far; do not search"
            )


def _add_restart(parser: Parser, meaning: str) -> None:
    parser.add_argument("--restart", action="store_true", help=meaning)
    parser.add_argument("--quiet", action="store_true", help="show warnings and errors only")


def _add_crossvalidate(commands: Any) -> None:
    parser = _add(commands, "crossvalidate", "run all stages for each fold of the data and summarise the results")
    _add_config(parser)
    _add_set(parser)
    parser.add_argument(
        "--folds", type=count, default=0, metavar="K", help=f"number of folds; default: data.folds, or {DEFAULT_FOLDS}"
    )
    parser.add_argument(
        "--fold", type=count, default=0, metavar="I", help="run this fold only, counted from 1 (for job arrays)"
    )
    _add_restart(parser, "put earlier results aside and start again")
    add_allow_code(parser)


def _add_balance_check(commands: Any) -> None:
    parser = _add(commands, "balance-check", "measure whether balancing pays on these data, and what to set")
    parser.add_argument(
        "config", type=nonempty, metavar="CONFIG", help=f"a TOML file or a profile ({', '.join(profile_names())})"
    )
    parser.add_argument(
        "--out", required=True, type=path, metavar="DIR", help="folder of balance-check.json and balance-check.html"
    )
    _add_set(parser)
    parser.add_argument(
        "--folds", type=count, default=DEFAULT_FOLDS, metavar="K", help=f"number of folds; default: {DEFAULT_FOLDS}"
    )
    parser.add_argument(
        "--criterion",
        type=nonempty,
        default="balanced_accuracy",
        metavar="NAME",
        help="measure that decides: balanced_accuracy (the default), macro_f1, worst_recall, recall:CLASS or another "
        "criterion of answers",
    )
    add_allow_code(parser)
    parser.add_argument("--quiet", action="store_true", help="show warnings and errors only")


def _add_compare(commands: Any) -> None:
    parser = _add(commands, "compare", "compare methods on one data set, at equal candidate evaluations and equal time")
    _add_config(parser)
    _add_set(parser)
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"searches as in the paper: a population of 50, 100 generations; with "
        f"CONFIG = {PAPER} also its epochs and sizes",
    )
    for data, title in (("mnist", "MNIST"), ("cifar10", "CIFAR-10")):
        parser.add_argument(
            f"--{data}", type=path, metavar="FOLDER", help=f"folder of the files of {title} (CONFIG = {PAPER})"
        )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--cell", type=count, default=0, metavar="I",
        help="run this cell only, counted from 1, on all ranks (for job arrays)",
    )  # fmt: skip
    part.add_argument(
        "--data-only", action="store_true", help="only prepare the data that the cells share (before a job array)"
    )
    _add_restart(parser, "put earlier results aside and start again; with --cell those of this cell")
    add_allow_code(parser)


def _add_tools(commands: Any) -> None:
    _add_predict(commands)
    _add_compress(commands)
    _add_sums(commands)
    _add_export(commands)
    _add_average(commands)
    _add_run(_add(commands, "verify", "check all checksums, counts and class proportions of the shards"))
    status = _add(commands, "status", "show results or progress of each stage, and the next command")
    status.add_argument("run", type=path, metavar="RUN", help="a run directory, or a folder of run directories")
    report = _add(commands, "report", "write one HTML file about a run, finished or not")
    report.add_argument(
        "run",
        type=path,
        metavar="RUN",
        help="a run directory, or the folder of a cross-validation, job array or comparison",
    )
    report.add_argument("--to", type=path, metavar="FILE", help="HTML file to write; default: RUN/report/index.html")
    _add_submit(commands)
    plan = _add(commands, "plan", "estimate time, memory and disk of each stage, and print lines for Slurm")
    _add_config(plan, out_required=False)
    _add_set(plan)
    _add_site(plan)
    inspect = _add(commands, "inspect", "show class counts before and after balancing, by shard and rank")
    _add_run(inspect)
    inspect.add_argument("--ranks", type=count, default=0, metavar="R", help="also show the rows of each of R ranks")
    inspect.add_argument("--picture", type=path, metavar="FILE", help="draw the class counts into this PNG file")
    doctor = _add(commands, "doctor", "check the installation, and show what each stage needs and lacks")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    init = _add(commands, "init", "inspect your data and propose a configuration")
    init.add_argument("data", type=path, metavar="DATA", help="a file or folder of data")
    init.add_argument("--to", type=path, metavar="FILE", help="TOML file to write; default: print it")
    config = _add(commands, "config", "print a configuration that explains every key")
    config.add_argument(
        "profile",
        nargs="?",
        type=nonempty,
        default="digits",
        metavar="PROFILE",
        help=f"{', '.join(profile_names())}, or a TOML file",
    )
    _add_set(config)
    completion = _add(commands, "completion", "print a script that completes rcdp's commands, options and keys")
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    topic = _add(commands, "help", "show the help of a command")
    topic.add_argument("topic", nargs="?", metavar="COMMAND", help="default: the list of commands")


def _add_run(parser: Parser) -> None:
    parser.add_argument("run", type=path, metavar="RUN", help="the run directory")


def _add_predict(commands: Any) -> None:
    predict = _add(commands, "predict", "write labels and probabilities of new samples, on one rank or many")
    predict.add_argument("run", type=path, metavar="RUN", help="a run directory, a model.pt or an exported .npz")
    predict.add_argument(
        "samples",
        type=path,
        metavar="SAMPLES",
        help="npz, npy, HDF5, csv, parquet, .ts, ARFF or IDX file, an image, a folder of images, or any data that "
        "data.source reads",
    )
    predict.add_argument(
        "--to", type=path, required=True, metavar="FILE", help=f"output file: {OUTPUT_FORMATS.suffixes_text()}"
    )
    predict.add_argument(
        "--format", type=_output_format, metavar="FORMAT",
        help=f"format of the output file: {', '.join(OUTPUT_FORMATS.names)}, or a class of your own as {USER_CLASS}; "
        "default: by the end of its name",
    )  # fmt: skip
    predict.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change how samples are read, as in data.delimiter=';', or how answers are chosen: prediction.priors, "
        ".thresholds, .costs (may be repeated)",
    )  # fmt: skip
    predict.add_argument(
        "--any-scale", action="store_true", help="predict samples on another scale than the training data"
    )
    add_allow_code(predict)
    predict.add_argument("--quiet", action="store_true", help="show warnings and errors only")


def _add_compress(commands: Any) -> None:
    parser = _add(commands, "compress", "make a smaller model of a trained one, in a new run directory")
    _add_run(parser)
    parser.add_argument("--to", type=path, required=True, metavar="NEW", help="the run directory of the smaller model")
    parser.add_argument(
        "--keep",
        type=_share,
        default=1.0,
        metavar="SHARE",
        help="share of the weights or units that are left, as in 0.1",
    )
    parser.add_argument(
        "--unit", choices=UNITS, default="weights", metavar="UNIT",
        help=f"what is removed: {', '.join(UNITS)}; default: weights",
    )  # fmt: skip
    parser.add_argument(
        "--bits", type=int, choices=BITS, default=32, metavar="BITS",
        help="bits of a stored weight: 32, or 8 for integers with a scale for each channel",
    )  # fmt: skip
    parser.add_argument(
        "--distil", action="store_true", help="train a model, smaller by --set, on the outputs of the old one"
    )
    parser.add_argument(
        "--epochs", type=count, default=0, metavar="N", help="epochs of the training; default: those of RUN"
    )
    _add_set(parser)
    add_allow_code(parser)
    parser.add_argument("--quiet", action="store_true", help="show warnings and errors only")


def _add_export(commands: Any) -> None:
    export = _add(commands, "export", "write the trained model to a file that runs without this package")
    export.add_argument("run", type=path, metavar="RUN", help="a run directory, or a model.pt")
    export.add_argument(
        "--to", type=path, required=True, metavar="FILE", help=f"file to write: {EXPORT_FORMATS.suffixes_text()}"
    )
    export.add_argument("--no-check", action="store_true", help="do not compare the file with the model on test rows")
    export.add_argument("--uncalibrated", action="store_true", help="leave out the calibration of the probabilities")
    export.add_argument("--quiet", action="store_true", help="show warnings and errors only")


def _add_average(commands: Any) -> None:
    average = _add(commands, "average", "write the mean of models that were trained alike on other rows")
    average.add_argument("models", type=path, nargs="+", metavar="MODEL", help="run directories or model files")
    average.add_argument("--to", type=path, required=True, metavar="FILE", help="model file to write")
    average.add_argument(
        "--rows", type=_rows, nargs="+", default=[], metavar="N",
        help="training rows of each model, by which it is weighted; default: those that its file records",
    )  # fmt: skip
    average.add_argument("--quiet", action="store_true", help="show warnings and errors only")


def _add_sums(commands: Any) -> None:
    merge = _add(commands, "merge", "solve a readout from the rows of several models that keep their sums")
    merge.add_argument("models", type=path, nargs="+", metavar="MODEL", help=_SUMMED)
    update = _add(commands, "update", "solve a readout from the rows of a model and new rows, on one rank or many")
    update.add_argument("model", type=path, metavar="MODEL", help=_SUMMED)
    update.add_argument("data", type=path, metavar="NEW_DATA", help="labelled samples, of the source of the model")
    update.add_argument(
        "--unit", type=nonempty, metavar="NAME",
        help="name of the unit of the new rows, if the model has no data.unit_pattern; default: the name of the file",
    )  # fmt: skip
    forget = _add(commands, "forget", "solve a readout without the rows of some shards, sites or patients")
    forget.add_argument("model", type=path, metavar="MODEL", help=_SUMMED)
    forget.add_argument(
        "units", type=nonempty, nargs="+", metavar="UNIT", help="a shard, or a unit by data.unit_pattern"
    )
    for parser in (merge, update, forget):
        parser.add_argument(
            "--to",
            type=path,
            required=True,
            metavar="FILE",
            help="model file to write, with its sums next to it",
        )
        parser.add_argument("--quiet", action="store_true", help="show warnings and errors only")
    add_allow_code(update)


def _add_submit(commands: Any) -> None:
    parser = _add(commands, "submit", "write the job scripts of a configuration and submit them to Slurm")
    _add_config(parser)
    _add_set(parser)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--chain", action="store_true", help="one job per stage, one after another (the default)")
    kind.add_argument("--one-job", action="store_true", help="all stages in one job")
    kind.add_argument(
        "--array", metavar="KIND",
        help="a job array over the same shards: seeds=N, configs=FOLDER (of TOML files), folds=K (a "
        "cross-validation), or cells (of a comparison)",
    )  # fmt: skip
    _add_site(parser)
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION",
        help="an option of sbatch for every job, as in --sbatch=--time=10 (may be repeated)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="show the jobs, but write and submit nothing")


def _add_site(parser: Parser) -> None:
    from rcdp_hpc.cluster.scripts import DEFAULT_SITE

    site = path(os.environ.get("RCDP_SITE", "").strip() or str(DEFAULT_SITE))
    parser.add_argument(
        "--site", type=path, default=site, metavar="FILE",
        help="settings of your site; default: $RCDP_SITE, or the defaults of the package",
    )  # fmt: skip


def _add_config(parser: Parser, out_required: bool = True) -> None:
    parser.add_argument(
        "config", nargs="?", type=nonempty, metavar="CONFIG",
        help=f"a TOML file or a profile ({', '.join(profile_names())}); default: the configuration of RUN",
    )  # fmt: skip
    parser.add_argument("--out", required=out_required, type=path, metavar="RUN", help="the run directory")


def _add_set(parser: Parser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one key (may be repeated)"
    )
