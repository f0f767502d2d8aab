"""The shard format: index, writer, reader, checks and repair."""
