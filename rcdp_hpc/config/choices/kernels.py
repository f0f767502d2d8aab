"""Kernels that compute reservoir states: one line for each.

The number format of a kernel, its devices, and the reservoirs for which "auto" measures it are in its class.
"""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

_OF = "rcdp_hpc.reservoir.kernels"

KERNELS = ChoiceTable(
    "reservoir.kernel",
    (
        Choice("auto", "measure once, take the fastest whose rounding does no harm, and record it"),
        Choice("dense-fp32", "float32 products", f"{_OF}.dense:DenseFloat32"),
        Choice("dense-bf16", "bfloat16 products", f"{_OF}.dense:DenseBfloat16"),
        Choice("dense-fp16", "float16 products (GPUs)", f"{_OF}.dense:DenseFloat16"),
        Choice("fused-bf16", "bfloat16 products with the activation included, by oneDNN", f"{_OF}.fused:FusedBfloat16"),
        Choice(
            "triton-bf16",
            "bfloat16 products with activation and leak included, by Triton (GPUs)",
            f"{_OF}.triton_bf16:TritonBfloat16",
        ),
        Choice(
            "sparse-fp32",
            "float32 products of a sparse matrix, for large sparse reservoirs",
            f"{_OF}.sparse:SparseFloat32",
        ),
    ),
    user_class="a kernel of your own (docs/extending.md)",
)
