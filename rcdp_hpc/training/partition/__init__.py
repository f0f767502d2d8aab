"""Which rank trains on which rows: partitions, batches, load balance."""
