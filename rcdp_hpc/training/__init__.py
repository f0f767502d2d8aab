"""Data-parallel training of the readout: batches, network, Horovod, checkpoints."""
