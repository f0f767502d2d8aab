"""Networks, assembled from the extractor and the readout that the configuration names.

`rcdp_hpc.networks.assembly` builds them; the packages `extractors`, `readouts` and `losses` have a class for each
choice.
"""
