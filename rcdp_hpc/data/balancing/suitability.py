"""Which balancing methods suit which samples: what is refused, and what the message recommends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.choices import BALANCING_METHODS, BalancingChoice, balancing_choice
from rcdp_hpc.data.balancing.registry import method_choice
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.budget import MIB, Budget
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError


def reserve_method(balance: str, categories: Sequence[int]) -> str:
    """Return the method that makes the rows of the reserve: "smote", or "random_over", which copies samples.

    Copies are made if the training part was balanced by copies, and of samples with categories, which cannot be
    interpolated.
    """
    return "random_over" if balancing_choice(balance).rows == "copies" or len(categories) else "smote"


@dataclass(frozen=True)
class Suitability:
    """What decides which balancing methods are accepted.

    Attributes
    ----------
    classes : sequence of str
        Names of the classes.
    counts : sequence of int
        Training samples of each class.
    data : DataSection
        ``balance`` and its options.
    features : int
        Numbers of a sample.
    categories : tuple of int
        Features that hold categories.
    is_series : bool
        Whether a sample has several steps; `categories` then counts the features of one step.
    """

    classes: Sequence[str]
    counts: Sequence[int]
    data: DataSection
    features: int
    categories: tuple[int, ...] = ()
    is_series: bool = False

    @classmethod
    def of(cls, source: Source, counts: Sequence[int], data: DataSection) -> Suitability:
        """Return the suitability for a source with these training samples per class."""
        shape = source.sample_shape
        is_series = len(shape) > 1 and shape[0] > 1
        return cls(source.classes, list(counts), data, math.prod(shape), tuple(source.categories), is_series)

    def targets(self, method: str) -> list[int]:
        """Return the rows that each class should have with a method."""
        choice = method_choice(method)
        return class_targets(self.counts, self.classes, choice, self.data.balance_ratio, self.data.balance_counts)

    def accepted(self) -> list[str]:
        """Return the methods that suit these samples and certainly reach their targets, best first."""
        exact = [str(name) for name in BALANCING_METHODS.names if balancing_choice(name).exact]
        return [method for method in exact if self._fits(method)]

    def advice(self) -> str:
        """Return what to set instead of this method, as text for a message."""
        others = [repr(method) for method in self.accepted() if method != self.data.balance]
        if not others:
            return "give every class more samples"
        listed = f"{', '.join(others[:-1])} or {others[-1]}" if len(others) > 1 else others[0]
        return f"set data.balance = {listed}"

    def check(self) -> None:
        """Raise an `InputError` if ``data.balance`` does not suit these samples; the message names what does."""
        problem, remedy = self._problem()
        if problem:
            way_out = f"{remedy}, or {self.advice()}" if remedy else self.advice()
            raise InputError(f"data.balance = '{self.data.balance}' {problem}: {way_out}.")

    @property
    def _choice(self) -> BalancingChoice:
        return balancing_choice(self.data.balance)

    @property
    def _short(self) -> list[int]:
        """The classes that get rows."""
        targets = self.targets(self.data.balance)
        return [label for label, count in enumerate(self.counts) if count < targets[label]]

    def _fits(self, method: str) -> bool:
        other = replace(self, data=self.data.model_copy(update={"balance": method}))
        try:
            targets = other.targets(method)
        except InputError:
            return False
        copies = reserve_method(method, self.categories) == "random_over"
        left = min(map(min, zip(targets, self.counts, strict=True)))
        enough = copies or left > 1 or self.data.folds > 0
        return not any(other._problem()) and (not self.data.reserve or enough)

    def _problem(self) -> tuple[str, str]:
        """Return why ``data.balance`` is not suitable and what to do besides choosing another; empty if it is."""
        if self._choice.rows in ("none", "copies"):
            return "", ""
        categories = self._category_problem()
        if categories:
            return categories, ""
        if self._choice.rows == "segments":
            problem, remedy = self._neighbour_problem()
            if problem:
                return problem, remedy
        return self._memory_problem() if self._choice.whole_set else ("", "")

    def _category_problem(self) -> str:
        choice = self._choice
        if choice.needs_categories and not self.categories:
            return "is for tables with data.category_columns"
        if choice.needs_categories and len(self.categories) == self.features and not self.is_series:
            return "needs a column of numbers, and all columns are in data.category_columns"
        # Methods get a series as one row of numbers, in which every step has its categories.
        handles_categories = choice.needs_categories or choice.rows == "values"
        if self.categories and (not handles_categories or self.is_series):
            return "would mix the numbers of data.category_columns"
        return ""

    def _neighbour_problem(self) -> tuple[str, str]:
        choice, k, short = self._choice, self.data.smote_neighbours, self._short
        if not short:
            return "", ""
        label = min(short, key=lambda label: self.counts[label])
        name, least, total = self.classes[label], self.counts[label], sum(self.counts)
        has = f"class {name} has {least} training sample{'s' if least != 1 else ''}"
        if least <= 1 and not (self.data.folds and choice.plain_smote):
            return (
                f"makes rows between a sample and its nearest neighbours of the same class, and {has}",
                "give it more samples",
            )
        if choice.fixed_neighbours and least <= k:
            return (
                f"needs more than data.smote_neighbours = {k} samples in every class that gets rows, and {has}",
                f"set data.smote_neighbours = {least - 1} or less",
            )
        if total < choice.least_rows:
            return f"needs {choice.least_rows} training samples, there are {total}", "give more samples"
        return "", ""

    def _memory_problem(self) -> tuple[str, str]:
        choice = self._choice
        rows = sum(self.targets(self.data.balance)) if choice.cleans else sum(self.counts)
        # Next to the samples, the values of a user's synthetic rows are held.
        needed = rows * self.features * 4 * (2 if choice.rows == "values" else 1)
        if needed <= Budget.of(self.data).held:
            return "", ""
        return (
            f"holds the samples of all classes in memory, and {rows} rows of {self.features} numbers take "
            f"{math.ceil(needed / MIB)} MiB",
            f"set data.memory_budget to at least {math.ceil(4 * needed / MIB)} (MiB)",
        )
