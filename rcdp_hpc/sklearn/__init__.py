"""An estimator for scikit-learn: `ReservoirClassifier`.

Importing it needs scikit-learn 1.6 or later; fitting needs torch. MPI is used only if a communicator is given.
"""

from __future__ import annotations

from rcdp_hpc.sklearn.classifier import ReservoirClassifier

__all__ = ["ReservoirClassifier"]
