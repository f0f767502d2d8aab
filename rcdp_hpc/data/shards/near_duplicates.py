"""Samples that nearly equal a sample of another split: copies with noise, of another scan, compressed again.

A row of one split is a near-duplicate if its distance to a row of the other is less than a tenth of the typical
distance: the median distance of a training row to its nearest other training row. Values are compared as they are
stored, divided by the standard deviation of their feature unless they are pixels of images.

All rows are projected to at most 16 principal directions of a sample of training rows. A projection does not increase
distances, so that rows which are near stay near; their exact distance is computed for the nearest few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.shards.duplicates import PAIRS, Digests, equal_rows, original_blocks
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.data.split import SPLITS, Split

# Share of the typical distance below which rows are near-duplicates.
NEAR = 0.1
DIRECTIONS = 16
# Training rows of which the directions are computed, and rows whose nearest neighbours give the typical distance.
SAMPLE_ROWS, QUERY_ROWS = 256, 64
SAMPLE_BYTES = 2**26
# Candidates for each row, and pairs of rows whose distance is computed.
NEAREST, MOST_PAIRS = 8, 20_000
# Float32 values of all rows; of more, the first rows of each split are compared.
MOST_VALUES = 2**30
# Squared distances are differences of products: smaller ones, relative to the squared norms, are 0.
ROUNDING = 1e-12

Advance = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Space:
    """The scale of the values, and the directions to which rows are projected.

    Attributes
    ----------
    centre, scale : ndarray of float64, shape (D,)
    directions : ndarray of float64, shape (D, m)
        Orthonormal columns.
    queries : ndarray of float64, shape (q, D)
        Training rows, scaled.
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    directions: NDArray[np.float64]
    queries: NDArray[np.float64]

    @classmethod
    def of(cls, shards: ShardReader) -> Space:
        """Return the space of the first training rows."""
        rows = max(2, min(SAMPLE_ROWS, SAMPLE_BYTES // (8 * int(np.prod(shards.sample_shape)))))
        sample = _first_rows(shards, rows)
        centre = sample.mean(axis=0)
        scale = np.ones(sample.shape[1])
        if shards.index["kind"] != "images":
            # The steps of a series have the scale of their feature.
            by_feature = sample.reshape(-1, shards.sample_shape[-1]).std(axis=0)
            scale = np.tile(np.where(by_feature > 0, by_feature, 1.0), sample.shape[1] // len(by_feature))
        scaled = (sample - centre) / scale
        return cls(centre, scale, _directions(scaled), scaled[:QUERY_ROWS])

    def scaled(self, shards: ShardReader, stored: NDArray[np.generic]) -> NDArray[np.float64]:
        """Return stored samples as scaled rows, shape (n, D)."""
        return (_values(shards, stored) - self.centre) / self.scale


@dataclass(frozen=True, eq=False)
class Projected:
    """The projection of the compared rows of a split: their row numbers, shape (n,), and places, shape (n, m)."""

    rows: NDArray[np.int64]
    places: NDArray[np.float64]


def near_duplicate_notes(shards: ShardReader, digests: Mapping[Split, Digests], advance: Advance) -> list[str]:
    """Return a sentence for each pair of splits with near-duplicates, and one about what was compared.

    Parameters
    ----------
    shards : ShardReader
    digests : dict
        Of all splits (`rcdp_hpc.data.shards.duplicates.read_digests`); equal rows are not counted again.
    advance : callable
        Called with 0 between blocks of work; may raise to stop.
    """
    space = Space.of(shards)
    limits = _compared_rows(shards, digests)
    train, typical = _project_train(shards, space, limits["train"], advance)
    if not typical > 0:
        return ["near-duplicates were not looked for: the training rows are equal to one another"]
    projected = {"train": train}
    for split in ("validation", "test"):
        projected[split] = _project(shards, space, split, limits[split], advance)
    radius = NEAR * typical
    notes = []
    for split, other in PAIRS:
        unequal = ~equal_rows(digests[split], digests[other])[: len(projected[split].rows)]
        held = Projected(projected[split].rows[unequal], projected[split].places[unequal])
        first, second, most = _candidates(held, projected[other], radius)
        near = _distances(shards, space, (split, first), (other, second), advance) < radius
        if near.any():
            found = len(np.unique(first[near]))
            row = int(np.argmax(near))
            notes.append(
                f"{'at least ' if most else ''}{found} of {len(projected[split].rows)} samples of {split} nearly equal "
                f"a sample of {other}, for example row {first[row]} of {split} and row {second[row]} of {other}: their "
                f"distance is below {NEAR} of the typical distance of a training row to its nearest, {typical:.3g}"
            )
    part = [
        f"the first {limits[split]} of {len(digests[split].rows)} of {split}"
        for split in SPLITS
        if limits[split] < len(digests[split].rows)
    ]
    return [*notes, f"near-duplicates were looked for among {', '.join(part)}"] if part else notes


def _compared_rows(shards: ShardReader, digests: Mapping[Split, Digests]) -> dict[Split, int]:
    """Return how many original rows of each split are compared."""
    total = sum(len(held.rows) for held in digests.values()) * int(np.prod(shards.sample_shape))
    share = min(1.0, MOST_VALUES / total)
    return {split: max(1, int(share * len(held.rows))) for split, held in digests.items()}


def _values(shards: ShardReader, stored: NDArray[np.generic]) -> NDArray[np.float64]:
    return shards.layout.storage.decode(stored).reshape(len(stored), -1).astype(np.float64)


def _first_rows(shards: ShardReader, rows: int) -> NDArray[np.float64]:
    blocks, held = [], 0
    for numbers, stored in original_blocks(shards, "train", 0, shards.rows("train")):
        blocks.append(_values(shards, stored[: rows - held]))
        held += len(numbers)
        if held >= rows:
            break
    return np.concatenate(blocks)


def _directions(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the principal directions of rows as orthonormal columns; all axes if there are few."""
    features = scaled.shape[1]
    if features <= DIRECTIONS:
        return np.eye(features)
    _, vectors = np.linalg.eigh(scaled @ scaled.T)
    found: NDArray[np.float64] = np.linalg.qr(scaled.T @ vectors[:, -DIRECTIONS:])[0]
    return found


def _project_train(shards: ShardReader, space: Space, limit: int, advance: Advance) -> tuple[Projected, float]:
    """Return the projected training rows, and the typical distance of one to its nearest."""
    square = np.einsum("ij,ij->i", space.queries, space.queries)
    nearest = np.full(len(space.queries), np.inf)

    def look(rows: NDArray[np.float64]) -> None:
        norms = np.einsum("ij,ij->i", rows, rows)
        apart = norms[:, None] + square - 2 * rows @ space.queries.T
        # Equal rows are duplicates, not neighbours.
        apart[apart <= ROUNDING * (norms[:, None] + square)] = np.inf
        np.minimum(nearest, apart.min(axis=0), out=nearest)

    projected = _project(shards, space, "train", limit, advance, look)
    finite = nearest[np.isfinite(nearest)]
    return projected, float(np.sqrt(np.median(finite))) if len(finite) else 0.0


def _project(
    shards: ShardReader,
    space: Space,
    split: Split,
    limit: int,
    advance: Advance,
    look: Callable[[NDArray[np.float64]], None] = lambda rows: None,
) -> Projected:
    rows, places, held = [], [], 0
    for numbers, stored in original_blocks(shards, split, 0, shards.rows(split)):
        advance(0)
        scaled = space.scaled(shards, stored[: limit - held])
        look(scaled)
        rows.append(numbers[: limit - held])
        places.append(scaled @ space.directions)
        held += len(scaled)
        if held >= limit:
            break
    return Projected(np.concatenate(rows), np.concatenate(places))


def _candidates(held: Projected, other: Projected, radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Return pairs of rows whose projections are near, and whether there are more than are looked at."""
    from scipy.spatial import cKDTree

    nearest = min(NEAREST, len(other.rows))
    apart, found = cKDTree(other.places).query(held.places, np.arange(1, nearest + 1), distance_upper_bound=radius)
    first, rank = np.nonzero(np.isfinite(apart))
    order = np.argsort(apart[first, rank], kind="stable")[:MOST_PAIRS]
    second = found[first[order], rank[order]]
    return held.rows[first[order]], other.rows[second], len(first) > MOST_PAIRS


def _distances(
    shards: ShardReader,
    space: Space,
    first: tuple[Split, NDArray[np.int64]],
    second: tuple[Split, NDArray[np.int64]],
    advance: Advance,
) -> NDArray[np.float64]:
    """Return the distance between the rows of each pair, which are of two splits."""
    result = np.empty(len(first[1]))
    size = max(1, SAMPLE_BYTES // (16 * len(space.scale)))
    for start in range(0, len(result), size):
        advance(0)
        block = slice(start, start + size)
        ends = [space.scaled(shards, _rows(shards, split, rows[block])) for split, rows in (first, second)]
        result[block] = np.linalg.norm(ends[0] - ends[1], axis=1)
    return result


def _rows(shards: ShardReader, split: Split, rows: NDArray[np.int64]) -> NDArray[np.generic]:
    numbers, places = np.unique(rows, return_inverse=True)
    return np.concatenate([shards.stored(split, row, row + 1) for row in numbers.tolist()])[places.reshape(-1)]
