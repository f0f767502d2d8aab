"""Engines of the training: one line for each, in the order in which ``auto`` tries them."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

_PACKAGE = "rcdp_hpc.parallel"
_HOROVOD_KEYS = ("parallel.horovod.fusion_mib", "parallel.horovod.cycle_ms", "parallel.horovod.hierarchical")

AUTO = "auto"
ENGINES = ChoiceTable(
    "parallel.engine",
    (
        Choice(AUTO, "Horovod if every rank can use it, otherwise torch.distributed", keys=_HOROVOD_KEYS),
        Choice("horovod", "Horovod", f"{_PACKAGE}.horovod:HorovodEngine", keys=_HOROVOD_KEYS),
        Choice("torch", "torch.distributed, with Gloo or NCCL", f"{_PACKAGE}.torch_distributed:TorchEngine"),
    ),
)
