"""File formats of predictions, one module each; `rcdp_hpc.config.choices.output_formats` lists them."""
