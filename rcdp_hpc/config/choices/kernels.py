"""Kernels that compute reservoir states: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

KERNELS = ChoiceTable(
    "reservoir.kernel",
    (
        Choice("auto", "measure once, take the fastest whose rounding does no harm, and record it"),
        Choice("dense-fp32", "float32 products"),
        Choice("dense-bf16", "bfloat16 products"),
        Choice("dense-fp16", "float16 products (GPUs)"),
        Choice("fused-bf16", "bfloat16 products with the activation included, by oneDNN"),
        Choice("sparse-fp32", "float32 products of a sparse matrix, for large sparse reservoirs"),
    ),
)
