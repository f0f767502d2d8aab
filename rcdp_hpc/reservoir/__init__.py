"""The fixed random reservoir: its matrices, its states over many samples, and the ridge readout."""
