"""Calibration of class probabilities on rows that the model was not fitted to.

`scores` has the rows, `scaling` and `isotonic` the methods, `choose` the choice between them.
"""
