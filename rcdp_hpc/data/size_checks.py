"""Checks as soon as the rows are counted: the memory of their recipes, and the padding of series."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.choices import balancing_choice
from rcdp_hpc.data.budget import SAMPLE_BYTES, SHARD_ROW_BYTES, Budget, in_units
from rcdp_hpc.data.rows import RowTable
from rcdp_hpc.data.sources import Source
from rcdp_hpc.data.split import Split

log = logging.getLogger(__name__)

# Distance and index of a neighbour, with working copies.
NEIGHBOUR_BYTES = 32
# Warn if padding takes this many times the bytes of the data, and at least these bytes.
MUCH_PADDING, PADDING_BYTES = 10, 2**26


def refuse_many_rows(
    source: Source, data: DataSection, others: Mapping[Split, RowTable], counts: Mapping[str, Sequence[int]]
) -> None:
    """Raise an `InputError` if the recipes of all rows need more memory than their share, before they are planned.

    Parameters
    ----------
    source : Source
    data : DataSection
    others : dict
        The rows of validation and test.
    counts : dict
        Training rows of each class ``before`` balancing, and ``wanted`` after it.
    """
    samples = len(source.train) + len(source.test or ())
    training = sum(max(pair) for pair in zip(counts["before"], counts["wanted"], strict=True))
    rows = math.ceil(training * (1 + data.reserve)) + sum(map(len, others.values()))
    searched = 0
    if balancing_choice(data.balance).plain_smote or data.reserve:
        pairs = zip(counts["before"], counts["wanted"], strict=True)
        searched = max(min(before, max(0, wanted - before)) for before, wanted in pairs)
        if data.reserve:
            searched = max(searched, math.ceil(max(counts["wanted"]) * data.reserve))
    neighbours = searched * (data.smote_neighbours + 1) * NEIGHBOUR_BYTES
    each = (SAMPLE_BYTES * samples + SHARD_ROW_BYTES * rows + neighbours) / max(1, rows)
    Budget.of(data).refuse_rows(data.path or source.name, rows, each)


def warn_of_padding(source: Source) -> None:
    """Log a warning if most of the shards is padding."""
    parts = [part for part in (source.train, source.test) if part is not None and part.lengths is not None]
    if not parts:
        return
    lengths = np.concatenate([part.lengths for part in parts if part.lengths is not None])
    longest, steps = source.sample_shape[0], int(lengths.sum())
    values = 4 * math.prod(source.sample_shape[1:])
    padding = (len(lengths) * longest - steps) * values
    if padding < PADDING_BYTES or padding < MUCH_PADDING * steps * values:
        return
    place = int(lengths.argmax())
    names = parts[0].ids if place < len(parts[0]) else None
    log.warning(
        "the shards hold %s of padding and %s of data: series %s has %d steps, and half of all series have at most %d. "
        "Shorten or remove the longest series to prepare and train in less time",
        in_units(padding),
        in_units(steps * values),
        names[place] if names is not None else place,
        longest,
        int(np.median(lengths)),
    )
