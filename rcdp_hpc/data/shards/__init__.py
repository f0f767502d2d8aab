"""The shard format: index, writer, reader, verification and repair."""
