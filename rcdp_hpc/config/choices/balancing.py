"""Methods that balance the classes: one line for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rcdp_hpc.config.choices.choice import USER_CLASS, Choice, ChoiceTable


@dataclass(frozen=True)
class BalancingChoice(Choice):
    """A balancing method, with the facts that checks need before the method is imported.

    Attributes
    ----------
    targets : {"more", "fewer", "any", "none"}
        Whether the method can give a class more rows than it has, fewer, or both; "none" aims at no number of rows.
    rows : {"segments", "copies", "values", "none"}
        Synthetic rows are between two samples of a class, copies of a sample, values of any origin, or there are none.
    exact : bool
        Every class ends with exactly the rows that it should have.
    cleans : bool
        The method may remove samples because of their values.
    whole_set : bool
        The method holds the samples of all classes in memory.
    plain_smote : bool
        Synthetic rows are those of SMOTE: a small class uses fewer than k neighbours, and one sample can be repeated.
    nearest : bool
        The second end of a segment is one of the k nearest samples of the same class.
    fixed_neighbours : bool
        Every class that gets rows needs more than k samples.
    least_rows : int
        Training samples that the method needs in all.
    least_step : float
        Lowest position of a synthetic row on its segment; negative if the row may be outside of it.
    needs_categories : bool
        The method is for tables with columns that hold categories.
    missed : str
        Why classes may end with another number of rows than they should have; for the log.
    """

    targets: Literal["more", "fewer", "any", "none"] = "more"
    rows: Literal["segments", "copies", "values", "none"] = "segments"
    exact: bool = False
    cleans: bool = False
    whole_set: bool = False
    plain_smote: bool = False
    nearest: bool = False
    fixed_neighbours: bool = False
    least_rows: int = 0
    least_step: float = 0.0
    needs_categories: bool = False
    missed: str = "unknown"


_PACKAGE = "rcdp_hpc.data.balancing"
# BorderlineSMOTE and SVMSMOTE compare a sample with 10 neighbours; KMeansSMOTE forms 8 clusters.
_METHODS = (
    BalancingChoice(
        "smote",
        "synthetic samples between a sample and its neighbours of the same class (paper)",
        f"{_PACKAGE}.smote:Smote",
        exact=True,
        plain_smote=True,
        nearest=True,
    ),
    BalancingChoice(
        "borderline_smote",
        "SMOTE from the samples near the border to other classes",
        f"{_PACKAGE}.borderline_smote:Borderline",
        whole_set=True,
        nearest=True,
        fixed_neighbours=True,
        least_rows=11,
        missed="it makes rows only from samples 'in danger': of their 10 nearest samples, half or more, but not all, "
        "belong to other classes",
    ),
    BalancingChoice(
        "svm_smote",
        "SMOTE from the support vectors of an SVM",
        f"{_PACKAGE}.svm_smote:Svm",
        whole_set=True,
        nearest=True,
        fixed_neighbours=True,
        least_rows=11,
        least_step=-0.5,
        missed="it makes rows only from support vectors, one share from those near to other classes and one from those "
        "far from them, and one share was empty",
    ),
    BalancingChoice(
        "adasyn",
        "SMOTE with more samples where neighbours belong to other classes",
        f"{_PACKAGE}.adasyn:Adasyn",
        whole_set=True,
        nearest=True,
        fixed_neighbours=True,
        missed="it rounds the number of rows of each sample",
    ),
    BalancingChoice(
        "kmeans_smote",
        "SMOTE within clusters found by k-means",
        f"{_PACKAGE}.kmeans_smote:KMeans",
        whole_set=True,
        fixed_neighbours=True,
        least_rows=8,
        missed="it rounds the number of rows of each cluster",
    ),
    BalancingChoice(
        "smotenc",
        "SMOTE for tables with data.category_columns",
        f"{_PACKAGE}.smotenc:SmoteNC",
        exact=True,
        whole_set=True,
        fixed_neighbours=True,
        needs_categories=True,
    ),
    BalancingChoice(
        "smote_tomek",
        "SMOTE, then remove Tomek links",
        f"{_PACKAGE}.smote_tomek:SmoteTomek",
        cleans=True,
        whole_set=True,
        plain_smote=True,
        missed="it removed Tomek links after SMOTE",
    ),
    BalancingChoice(
        "smote_enn",
        "SMOTE, then remove samples with a sample of another class among their three nearest",
        f"{_PACKAGE}.smote_enn:SmoteEnn",
        cleans=True,
        whole_set=True,
        plain_smote=True,
        missed="it removed rows by edited nearest neighbours after SMOTE",
    ),
    BalancingChoice(
        "random_over",
        "repeat random samples of the smaller classes",
        f"{_PACKAGE}.random_over:RandomOver",
        rows="copies",
        exact=True,
    ),
    BalancingChoice(
        "random_under",
        "remove random samples of the larger classes",
        f"{_PACKAGE}.random_under:RandomUnder",
        targets="fewer",
        rows="none",
        exact=True,
    ),
    BalancingChoice(
        "none",
        "leave the classes as they are",
        f"{_PACKAGE}.unbalanced:Unbalanced",
        targets="none",
        rows="none",
        exact=True,
    ),
)
_USER_METHOD = BalancingChoice(
    USER_CLASS,
    "a class with fit_resample of your own or of imbalanced-learn (docs/extending.md)",
    targets="any",
    rows="values",
    cleans=True,
    whole_set=True,
    missed="the class decides how many rows it returns",
)

BALANCING_METHODS = ChoiceTable("data.balance", _METHODS, user_class=_USER_METHOD.meaning)


def balancing_choice(name: str) -> BalancingChoice:
    """Return the facts about a value of ``data.balance``; of a user's class, those that hold for every such class."""
    return next((choice for choice in _METHODS if choice.name == name), replace(_USER_METHOD, name=name))
