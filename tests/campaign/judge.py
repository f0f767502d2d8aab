"""What a command made of a fault: five verdicts, and why."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from campaign.children import Done

TRACES = re.compile(
    r"Traceback \(most recent call last\)|Exception ignored in|Fatal Python error|Segmentation fault|core dumped"
)
ERROR = re.compile(r"^(?:rcdp: error|rcdp \w+: error|rcdp: rank \d+.*error|usage error):", re.MULTILINE)
WARNING = re.compile(r"^rcdp: warning:.*(?:\n(?!rcdp: ).*)*", re.MULTILINE)
# Beyond this and what the libraries take, a command on a tiny input has believed a number that it should not have.
PEAK = 1536


class Verdict(StrEnum):
    """How a trial counts.

    SURVIVED: the same result as without the fault. TOLD: one message that names the file, and a documented exit code.
    UNCLEAR: refused, but by several messages, without the file's name, by another exit code, or with much memory.
    SILENT: another result, exit code 0, and no warning that names the file. TRACEBACK: a traceback, or the end by a
    signal. HANG: not ended at the limit. BROKEN: the trial itself failed.
    """

    SURVIVED = "survived"
    TOLD = "told"
    UNCLEAR = "unclear"
    SILENT = "silent"
    TRACEBACK = "traceback"
    HANG = "hang"
    BROKEN = "broken"


FAULTS = (Verdict.UNCLEAR, Verdict.SILENT, Verdict.TRACEBACK, Verdict.HANG, Verdict.BROKEN)


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reason."""

    verdict: Verdict
    why: str = ""


def judge(
    done: Done,
    *,
    names: Sequence[str],
    codes: Sequence[int],
    differences: Sequence[str] = (),
    must_refuse: str = "",
    base_peak: int = 0,
    several: bool = False,
) -> Judgement:
    """Return what a command made of a fault.

    Parameters
    ----------
    done : Done
    names : sequence of str
        Names of the faulty file, or words for it: a message has to contain one.
    codes : sequence of int
        Exit codes that are documented for this fault.
    differences : sequence of str
        Results that are not those of the undamaged run.
    must_refuse : str
        Why exit code 0 is wrong, whatever the results are.
    base_peak : int
        MiB that the command takes without the fault.
    several : bool
        Whether the command lists what it finds, a message each.
    """
    if done.timed_out:
        return Judgement(Verdict.HANG, f"not ended after {done.seconds:.0f} s; {where_it_was(done.text)}")
    if TRACES.search(done.text):
        return Judgement(Verdict.TRACEBACK, last_line_of_trace(done.text))
    if done.code < 0:
        return Judgement(Verdict.TRACEBACK, f"ended by {signal.Signals(-done.code).name}")
    if base_peak and done.peak > base_peak + PEAK:
        return Judgement(Verdict.UNCLEAR, f"took {done.peak - base_peak} MiB more than without the fault")
    if done.code == 0:
        return _judge_success(done, names, differences, must_refuse)
    return _judge_refusal(done, names, codes, several)


def _judge_success(done: Done, names: Sequence[str], differences: Sequence[str], must_refuse: str) -> Judgement:
    warned = any(name in warning for warning in WARNING.findall(done.text) for name in names)
    if warned or not (differences or must_refuse):
        return Judgement(Verdict.TOLD if warned else Verdict.SURVIVED)
    what = must_refuse or f"other than without the fault: {', '.join(differences)}"
    return Judgement(Verdict.SILENT, what)


def _judge_refusal(done: Done, names: Sequence[str], codes: Sequence[int], several: bool) -> Judgement:
    messages = len(ERROR.findall(done.text))
    if done.code not in codes:
        return Judgement(Verdict.UNCLEAR, f"exit code {done.code}, expected one of {tuple(codes)}: {tail(done.text)}")
    if not messages:
        return Judgement(Verdict.UNCLEAR, f"exit code {done.code} without a message: {tail(done.text)}")
    if messages > 1 and not several:
        return Judgement(Verdict.UNCLEAR, f"{messages} error messages: {tail(done.text, 400)}")
    if not any(name in done.text for name in names):
        return Judgement(Verdict.UNCLEAR, f"the message does not name the file: {tail(done.text)}")
    return Judgement(Verdict.TOLD)


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    """Return the names of results that differ, are missing or are new."""
    return [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]


def last_line_of_trace(text: str) -> str:
    """Return the last exception of an output with a traceback, with the innermost line of the package."""
    places = re.findall(r'File "[^"]*/(rcdp_hpc/[^"]*)", line (\d+)', text)
    lines = [line for line in text.splitlines() if re.match(r"^[\w.]*(?:Error|Exception|Interrupt|Warning)\b", line)]
    last = lines[-1] if lines else tail(text)
    return f"{last[:160]} ({':'.join(places[-1])})" if places else last[:200]


def where_it_was(text: str) -> str:
    """Return the innermost line of the package in the dump of a command that hung, of its main thread."""
    # The main thread is the last one.
    text = text[text.rfind("hread 0x") :]
    places = re.findall(r'File "[^"]*/(rcdp_hpc/[^"]*)", line (\d+)', text)
    return f"it was in {':'.join(places[0])}" if places else tail(text)


def tail(text: str, length: int = 200) -> str:
    """Return the end of an output on one line."""
    return " ".join(text.split())[-length:]
