"""The values of a program as C arrays of one sample, and which of them share memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Steps:
    """The number of steps of a series, which is known when the C function is called.

    Attributes
    ----------
    count : str
        Name of a C variable.
    bound : str
        C expression of constants: the largest count.
    """

    count: str
    bound: str


@dataclass(eq=False)
class Storage:
    """Memory of one or several values, of which the last one replaces the others.

    Attributes
    ----------
    variable : str
        Name of the C pointer.
    size : int
        Numbers; with `bound`, for each of the most steps.
    bound : str
        As `Steps.bound`; empty if the size does not depend on the steps.
    c_type : str
    first, last : int
        Numbers of the operations that write it first and read it last.
    """

    variable: str
    size: int
    bound: str
    c_type: str
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Value:
    """An array of one sample.

    Attributes
    ----------
    variable : str
        C expression of the pointer.
    shape : tuple of int
        Without the rows. The first entry does not count if there are `steps`.
    c_type : str
    steps : Steps or None
        Length of the first axis, if it depends on the series.
    storage : Storage or None
        None for the sample, which the caller owns.
    """

    variable: str
    shape: tuple[int, ...]
    c_type: str = "float"
    steps: Steps | None = None
    storage: Storage | None = None

    @property
    def lengths(self) -> list[str]:
        """C expressions of the lengths of the axes."""
        first = [] if self.steps is None else [self.steps.count]
        return first + [str(length) for length in self.shape[len(first) :]]

    @property
    def total(self) -> str:
        """C expression of the number of values."""
        return product(self.lengths)


@dataclass
class Slots:
    """Arrays that values share, if no value is read after another one is written over it.

    Attributes
    ----------
    sizes : dict of (str, str, int) to int
        By type, bound and number of an array: its largest size.
    """

    sizes: dict[tuple[str, str, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, storages: Sequence[Storage]) -> tuple[Slots, list[str]]:
        """Return the arrays, and for each storage the name of its array."""
        slots, names = cls(), []
        ends: dict[tuple[str, str, int], int] = {}
        for storage in storages:
            number = 0
            # A result is not written over an input of the same operation.
            while ends.get((storage.c_type, storage.bound, number), -1) >= storage.first:
                number += 1
            key = (storage.c_type, storage.bound, number)
            ends[key] = storage.last
            slots.sizes[key] = max(slots.sizes.get(key, 1), storage.size)
            names.append(slots.name(key))
        return slots, names

    def name(self, key: tuple[str, str, int]) -> str:
        """Return the name of an array; they are numbered in the order of their first use."""
        return f"memory{list(self.sizes).index(key)}"

    def declarations(self) -> list[str]:
        """Return the lines that declare the arrays."""
        return [
            f"    RCDP_STORAGE {key[0]} {self.name(key)}[{f'({key[1]}) * {size}' if key[1] else size}];"
            for key, size in self.sizes.items()
        ]


def product(lengths: Sequence[str | int]) -> str:
    """Return the C expression of a product; factors that are numbers are multiplied."""
    known = math.prod(int(length) for length in lengths if str(length).isdecimal())
    others = [str(length) for length in lengths if not str(length).isdecimal()]
    return " * ".join([*others, str(known)] if known != 1 or not others else others)
