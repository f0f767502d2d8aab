"""Balancing the training part: one file for each method, the targets of the classes, nearest neighbours."""
