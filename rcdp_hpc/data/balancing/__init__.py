"""Balancing the training part: SMOTE and its relatives, what each class should have, neighbours."""
