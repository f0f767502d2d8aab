"""The methods of a comparison, one file for each; `rcdp_hpc.config.choices.methods` lists them."""
