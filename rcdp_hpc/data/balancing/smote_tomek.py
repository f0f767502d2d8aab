"""SMOTE and Tomek links."""

from __future__ import annotations

from imblearn.under_sampling import TomekLinks

from rcdp_hpc.data.balancing.cleaned_smote import CleanedSmote


class SmoteTomek(CleanedSmote):
    """SMOTE; then both rows of every Tomek link are removed."""

    cleaner = TomekLinks
