"""Extractors: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

EXTRACTORS = ChoiceTable(
    "extractor.kind",
    (
        Choice("none", "none: the sample as reservoir.sequence cuts it"),
        Choice("kernels", "random convolution kernels of series, joined to the reservoir's states; fixed"),
        Choice("dictionary", "dictionary of image patches, learned without labels, then fixed"),
        Choice("convolution", "trained convolutions"),
    ),
    user_class="a trained extractor of your own (docs/networks.md)",
)
