"""The networks, assembled from parts that the configuration names, one file per part; `registry` has the names."""
