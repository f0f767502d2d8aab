"""Data-parallel training of the readout."""
