"""Improvements of moth-flame from the literature; none of them is part of the published algorithm."""
