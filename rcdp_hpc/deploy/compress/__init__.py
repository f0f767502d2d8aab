"""The steps of ``rcdp compress``; `rcdp_hpc.pipeline.compression` chooses among them."""
