"""Names of classes: spellings of one class, names that look alike, and the order of classes."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from rcdp_hpc.data.sources.findings import Findings

WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?", re.ASCII)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,4})?", re.ASCII)
INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"
NAMED = 5
SHOWN = 60


def clean_name(name: str) -> str:
    """Return a name without blanks and invisible characters at its ends, in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", name).strip().strip(INVISIBLE).strip()


def canonical_names(train: list[str], test: list[str], findings: Findings, where: str) -> dict[str, str]:
    """Return the class of every label.

    Parameters
    ----------
    train, test : list of str
        The different labels of each part.
    findings : Findings
        Receives the spellings that were merged.
    where : str
        Origin of the labels, for messages.
    """
    spellings = list(dict.fromkeys([*train, *test]))
    names = {spelling: clean_name(spelling) for spelling in spellings}
    changed = [spelling for spelling in spellings if names[spelling] != spelling]
    if changed:
        clean = _quoted(names[spelling] for spelling in changed)
        findings.warnings.append(
            f"{where}: blanks at the ends of labels and the Unicode form of characters do not count: "
            f"{_quoted(changed)} {'is' if len(changed) == 1 else 'are'} read as {clean}"
        )
    plain = _booleans(set(names.values())) or _whole_numbers(set(names.values()))
    merged = defaultdict(list)
    for name, canonical in plain.items():
        merged[canonical].append(name)
    for canonical, same in merged.items():
        if len(same) > 1:
            findings.warnings.append(f"{where}: the labels {_quoted(sorted(same))} are one class, {canonical!r}")
    return {spelling: plain.get(name, name) for spelling, name in names.items()}


def in_order(names: Iterable[str]) -> list[str]:
    """Return names sorted as numbers if all are numbers, otherwise alphabetically."""
    names = sorted(names)
    if all(NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=Decimal)
    return names


def report_lookalikes(classes: list[str], findings: Findings) -> None:
    """Record classes that differ only by case, blanks or the notation of a number."""
    for what, key, sentences in (
        ("case, blanks or the width of characters", _reading_key, findings.warnings),
        ("the notation of a number", _number_key, findings.assumed),
    ):
        alike = defaultdict(list)
        for name in classes:
            if (reading := key(name)) is not None:
                alike[reading].append(name)
        groups = [same for same in alike.values() if len(same) > 1]
        if groups:
            shown = "; ".join(_quoted(same) for same in groups[:NAMED]) + ("; ..." if len(groups) > NAMED else "")
            sentences.append(
                f"classes that differ only by {what} are separate classes: {shown}. Give them one label if they are "
                "the same class"
            )


def some_names(names: list[str]) -> str:
    """Return the first ten names, for messages."""
    return ", ".join(_short(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")


def _short(name: str) -> str:
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}... ({len(name)} characters)"


def _booleans(names: set[str]) -> dict[str, str]:
    """Return "False" or "True" for each spelling, if there are no other names."""
    if {name.lower() for name in names} <= {"true", "false"}:
        return {name: name.capitalize() for name in names}
    return {}


def _whole_numbers(names: set[str]) -> dict[str, str]:
    """Return integers without decimals ("1" for "1.0"), if all names are integers."""
    matches = {name: WHOLE_NUMBER.fullmatch(name) for name in names}
    plain = {name: match[1] for name, match in matches.items() if match}
    if len(plain) < len(names):
        return {}
    return {name: "0" if number == "-0" else number for name, number in plain.items()}


def _reading_key(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


def _number_key(name: str) -> Decimal | None:
    return Decimal(name) if NUMBER.fullmatch(name) else None


def _quoted(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(repr(_short(name)) for name in names[:NAMED]) + (", ..." if len(names) > NAMED else "")
