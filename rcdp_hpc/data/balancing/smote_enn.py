"""SMOTE and edited nearest neighbours."""

from __future__ import annotations

from imblearn.under_sampling import EditedNearestNeighbours

from rcdp_hpc.data.balancing.cleaned_smote import CleanedSmote


class SmoteEnn(CleanedSmote):
    """SMOTE; then rows with a row of another class among their three nearest are removed."""

    cleaner = EditedNearestNeighbours
