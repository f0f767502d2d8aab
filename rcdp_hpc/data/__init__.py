"""Raw samples to balanced, stratified HDF5 shards, and back. Needs neither torch nor MPI nor Horovod."""
