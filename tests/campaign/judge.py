"""Verdicts on the behaviour of a command with a fault, and their reasons."""

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
# Allowed memory in MiB beyond that of the libraries; a command that exceeds it on a tiny input trusts a wrong number.
PEAK = 1536


class Verdict(StrEnum):
    """The classification of a trial.

    SURVIVED: the same result as without the fault. REPORTED: one message that names the file, and a documented exit
    code. UNCLEAR: an error, but with several messages, without the name of the file, with an undocumented exit code, or
    with too much memory. SILENT: another result with exit code 0, and no warning that names the file. TRACEBACK: a
    traceback, or the end by a signal. HANG: not ended at the time limit. BROKEN: the trial itself failed.
    """

    SURVIVED = "survived"
    REPORTED = "reported"
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
    """Return the verdict on a command with a fault.

    Parameters
    ----------
    done : Done
    names : sequence of str
        Names of the faulty file, or words for it; a message must contain one.
    codes : sequence of int
        Documented exit codes for this fault.
    differences : sequence of str
        Results that differ from those of the undamaged run.
    must_refuse : str
        Why exit code 0 is wrong for any results; empty if it is not.
    base_peak : int
        Memory of the command without the fault in MiB.
    several : bool
        Whether the command prints a message for each finding.
    """
    if done.timed_out:
        return Judgement(Verdict.HANG, f"not ended after {done.seconds:.0f} s; {where_it_was(done.text)}")
    if TRACES.search(done.text):
        return Judgement(Verdict.TRACEBACK, last_line_of_trace(done.text))
    if done.code < 0:
        return Judgement(Verdict.TRACEBACK, f"ended by {signal.Signals(-done.code).name}")
    if base_peak and done.peak > base_peak + PEAK:
        return Judgement(Verdict.UNCLEAR, f"used {done.peak - base_peak} MiB more than without the fault")
    if done.code == 0:
        return _judge_success(done, names, differences, must_refuse)
    return _judge_refusal(done, names, codes, several)


def _judge_success(done: Done, names: Sequence[str], differences: Sequence[str], must_refuse: str) -> Judgement:
    warned = any(name in warning for warning in WARNING.findall(done.text) for name in names)
    if warned or not (differences or must_refuse):
        return Judgement(Verdict.REPORTED if warned else Verdict.SURVIVED)
    reason = must_refuse or f"differs from the run without the fault: {', '.join(differences)}"
    return Judgement(Verdict.SILENT, reason)


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
    return Judgement(Verdict.REPORTED)


def differences(found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    """Return the names of results that differ, are missing or are additional."""
    return [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]


def last_line_of_trace(text: str) -> str:
    """Return the last exception in an output, with the innermost line of the package."""
    places = re.findall(r'File "[^"]*/(rcdp_hpc/[^"]*)", line (\d+)', text)
    lines = [line for line in text.splitlines() if re.match(r"^[\w.]*(?:Error|Exception|Interrupt|Warning)\b", line)]
    last = lines[-1] if lines else tail(text)
    return f"{last[:160]} ({':'.join(places[-1])})" if places else last[:200]


def where_it_was(text: str) -> str:
    """Return the innermost line of the package in the main thread, from the traceback dump of a hanging command."""
    # The main thread is the last one in the dump.
    text = text[text.rfind("hread 0x") :]
    places = re.findall(r'File "[^"]*/(rcdp_hpc/[^"]*)", line (\d+)', text)
    return f"in {':'.join(places[0])}" if places else tail(text)


def tail(text: str, length: int = 200) -> str:
    """Return the end of an output on one line."""
    return " ".join(text.split())[-length:]
