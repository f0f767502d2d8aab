"""Checks of the groups of rows: no patient, subject or site is on two sides of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.split import RESERVE, SPLITS, Split

NAMED = 5
Columns = Mapping[str, NDArray[Any]]


def group_findings(index: Mapping[str, Any], columns: Mapping[Split, Columns]) -> tuple[list[str], list[str]]:
    """Compare the groups of the rows of all splits.

    Parameters
    ----------
    index : mapping
        The content of index.json.
    columns : mapping
        ``group``, ``synthetic`` and ``source_index`` of the rows of each split.

    Returns
    -------
    findings : list of str
        The problems; empty if there are none.
    notes : list of str
        Groups that the separate test set of the source shares with training, which preparation reported, too.
    """
    entry = index.get("groups")
    if entry is None:
        return [], []
    names, recorded = entry["names"], entry.get("shared_with_test")
    findings = _unknown_groups(columns, len(names), recorded is not None) + _moved_groups(columns)
    if findings:
        return findings, []
    held = {split: np.unique(columns[split]["group"]) for split in SPLITS}
    if RESERVE in columns:
        held["train"] = np.union1d(held["train"], columns[RESERVE]["group"])
    notes: list[str] = []
    for number, split in enumerate(SPLITS):
        others = [other for other in SPLITS[:number] if np.isin(held[other], held[split]).any()]
        for other in others:
            text = _shared(split, other, held, columns, names)
            (notes if split == "test" and recorded is not None else findings).append(text)
    if recorded is not None:
        findings += _unrecorded(recorded, columns)
    return findings, notes


def _shared(
    split: Split, other: Split, held: Mapping[Split, NDArray[Any]], columns: Mapping[Split, Columns], names: list[str]
) -> str:
    codes = np.intersect1d(held[split], held[other])
    codes = codes[codes >= 0]
    rows = int(np.isin(columns[split]["group"], codes).sum())
    shown = ", ".join(repr(names[code]) for code in codes[:NAMED].tolist())
    more = f" and {len(codes) - NAMED} more" if len(codes) > NAMED else ""
    return (
        f"{split} and {other} share {len(codes)} of {len(names)} groups, with {rows} of {len(columns[split]['group'])} "
        f"rows of {split}: {shown}{more}"
    )


def _unknown_groups(columns: Mapping[Split, Columns], number: int, separate_test: bool) -> list[str]:
    """Find rows whose group is not one of the index. Only a separate test set may have samples without a group."""
    findings = []
    for split, content in columns.items():
        least = -1 if split == "test" and separate_test else 0
        wrong = (content["group"] < least) | (content["group"] >= number)
        if wrong.any():
            row = int(np.argmax(wrong))
            findings.append(
                f"{split}: row {row} has group {content['group'][row]}, expected {least} to {number - 1} by the index"
            )
    return findings


def _moved_groups(columns: Mapping[Split, Columns]) -> list[str]:
    """Find synthetic rows with another group than the original row that they start from."""
    train = columns["train"]
    original = ~train["synthetic"]
    order = np.argsort(train["source_index"][original])
    samples, groups = train["source_index"][original][order], train["group"][original][order]
    findings = []
    splits: tuple[Split, ...] = ("train", RESERVE)
    for split in splits:
        if split not in columns:
            continue
        rows = np.flatnonzero(columns[split]["synthetic"])
        source = columns[split]["source_index"][rows]
        places = np.minimum(np.searchsorted(samples, source), len(samples) - 1)
        # The balancing may have removed the original row.
        wrong = (samples[places] == source) & (groups[places] != columns[split]["group"][rows])
        if wrong.any():
            findings.append(f"{split}: row {rows[np.argmax(wrong)]} has another group than the sample it is made of")
    return findings


def _unrecorded(recorded: Mapping[str, int], columns: Mapping[Split, Columns]) -> list[str]:
    """Compare what the separate test set shares with the record of the preparation."""
    other = np.union1d(columns["train"]["group"], columns["validation"]["group"])
    test = columns["test"]["group"]
    shared = np.intersect1d(other, test[test >= 0])
    found = {"groups": len(shared), "rows": int(np.isin(test, shared).sum())}
    if found == dict(recorded):
        return []
    return [f"test: shares {found} with the training data, and the index says {dict(recorded)}"]
