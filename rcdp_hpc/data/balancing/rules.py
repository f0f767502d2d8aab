"""Which methods of balancing fit which samples: what is refused, and what its message may advise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.budget import MIB, Budget
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError

# Methods that hold the samples of all classes at once.
WHOLE_SET = ("borderline_smote", "svm_smote", "adasyn", "kmeans_smote", "smotenc", "smote_tomek", "smote_enn")
# Methods that want k neighbours in every class that gets rows; SMOTE itself takes fewer in a small class.
FIXED_NEIGHBOURS = ("borderline_smote", "svm_smote", "adasyn", "kmeans_smote", "smotenc")
# Methods that repeat the only sample of a class, if a fold of a cross-validation leaves it no other.
REPEATS = ("smote", "smote_tomek", "smote_enn")
# imbalanced-learn looks at 10 neighbours of a sample to see whether it is in danger, and at 8 clusters.
LEAST_ROWS = {"borderline_smote": 11, "svm_smote": 11, "kmeans_smote": 8}


@dataclass(frozen=True)
class Balancing:
    """What decides which methods of balancing are accepted.

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
    categories : int
        How many of them are categories.
    has_lengths : bool
        Whether samples are series of unequal length.
    """

    classes: Sequence[str]
    counts: Sequence[int]
    data: DataSection
    features: int
    categories: int = 0
    has_lengths: bool = False

    @classmethod
    def of(cls, source: Source, counts: Sequence[int], data: DataSection) -> Balancing:
        """Return the situation of a source with these training samples per class."""
        width = math.prod(source.sample_shape)
        return cls(source.classes, list(counts), data, width, len(source.categories), source.has_lengths)

    @property
    def short(self) -> list[int]:
        """The classes that get rows."""
        targets = self.targets(self.data.balance)
        return [label for label, count in enumerate(self.counts) if count < targets[label]]

    def targets(self, method: str) -> list[int]:
        """Return the rows that each class should have under a method."""
        if method == "none":
            return list(self.counts)
        return class_targets(self.counts, self.classes, method, self.data.balance_ratio, self.data.balance_counts)

    def accepted(self) -> list[str]:
        """Return the methods that accept these samples for certain and reach their targets, best first."""
        return [method for method in ("smote", "smotenc", "random_over", "random_under", "none") if self._fits(method)]

    def advice(self) -> str:
        """Return what to set instead of this method, as text for a message."""
        others = [repr(method) for method in self.accepted() if method != self.data.balance]
        if not others:
            return "give every class more samples"
        listed = f"{', '.join(others[:-1])} or {others[-1]}" if len(others) > 1 else others[0]
        return f"take data.balance = {listed}"

    def check(self) -> None:
        """Raise an `InputError` if ``data.balance`` does not fit these samples; the message names what does."""
        problem, remedy = self._problem()
        if problem:
            way_out = f"{remedy}, or {self.advice()}" if remedy else self.advice()
            raise InputError(f"data.balance = '{self.data.balance}' {problem}: {way_out}.")

    def _fits(self, method: str) -> bool:
        other = replace(self, data=self.data.model_copy(update={"balance": method}))
        try:
            targets = other.targets(method)
        except InputError:
            return False
        # The reserve is made by SMOTE, unless rows are copied.
        copies = method == "random_over" or bool(self.categories)
        left = min(map(min, zip(targets, self.counts, strict=True)))
        enough = copies or left > 1 or self.data.folds > 0
        return not any(other._problem()) and (not self.data.reserve or enough)

    def _problem(self) -> tuple[str, str]:
        """Return why ``data.balance`` does not fit, and what else to do than to take another; empty if it fits."""
        method = self.data.balance
        if method in ("none", "random_over", "random_under"):
            return "", ""
        categories = self._category_problem()
        if categories:
            return categories, ""
        problem, remedy = self._neighbour_problem()
        if problem or method not in WHOLE_SET:
            return problem, remedy
        return self._memory_problem()

    def _category_problem(self) -> str:
        method = self.data.balance
        if method == "smotenc" and not self.categories:
            return "is for tables with data.category_columns"
        if method == "smotenc" and self.categories == self.features and not self.has_lengths:
            return "needs a column of numbers, and all columns are in data.category_columns"
        # Which numbers of a whole series are categories, SMOTENC cannot know.
        if self.categories and (method != "smotenc" or self.has_lengths):
            return "would mix the numbers of data.category_columns"
        return ""

    def _neighbour_problem(self) -> tuple[str, str]:
        method, k, short = self.data.balance, self.data.smote_neighbours, self.short
        if not short:
            return "", ""
        label = min(short, key=lambda label: self.counts[label])
        name, least, total = self.classes[label], self.counts[label], sum(self.counts)
        has = f"class {name} has {least} training sample{'s' if least != 1 else ''}"
        if least <= 1 and not (self.data.folds and method in REPEATS):
            return (
                f"makes rows between a sample and its nearest neighbours of the same class, and {has}",
                "give it more samples",
            )
        if method in FIXED_NEIGHBOURS and least <= k:
            return (
                f"takes data.smote_neighbours = {k} neighbours in every class, and {has}",
                f"set data.smote_neighbours = {least - 1} or less",
            )
        if total < LEAST_ROWS.get(method, 0):
            return f"needs {LEAST_ROWS[method]} training samples, there are {total}", "give more samples"
        return "", ""

    def _memory_problem(self) -> tuple[str, str]:
        method = self.data.balance
        rows = sum(self.targets(method)) if method in ("smote_tomek", "smote_enn") else sum(self.counts)
        needed = rows * self.features * 4
        if needed <= Budget.of(self.data).held:
            return "", ""
        return (
            f"looks at the samples of all classes at once, and {rows} rows of {self.features} numbers take "
            f"{math.ceil(needed / MIB)} MiB",
            f"set data.memory_budget to at least {math.ceil(4 * needed / MIB)} (MiB)",
        )
