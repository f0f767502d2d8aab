"""Methods that balance the classes: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

BALANCING_METHODS = ChoiceTable(
    "data.balance",
    (
        Choice("smote", "synthetic samples between a sample and its neighbours of the same class (paper)"),
        Choice("borderline_smote", "SMOTE from the samples near the border to other classes"),
        Choice("svm_smote", "SMOTE from the support vectors of an SVM"),
        Choice("adasyn", "SMOTE with more samples where neighbours belong to other classes"),
        Choice("kmeans_smote", "SMOTE within clusters found by k-means"),
        Choice("smotenc", "SMOTE for tables with data.category_columns"),
        Choice("smote_tomek", "SMOTE, then remove Tomek links"),
        Choice("smote_enn", "SMOTE, then remove samples that differ from most of their neighbours"),
        Choice("random_over", "repeat random samples of the smaller classes"),
        Choice("random_under", "remove random samples of the larger classes"),
        Choice("none", "leave the classes as they are"),
    ),
)
