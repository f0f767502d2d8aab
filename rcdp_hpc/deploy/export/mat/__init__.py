"""Exported models as .mat files, and functions for GNU Octave and MATLAB that run and average them."""
