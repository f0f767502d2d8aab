"""A substitute for `rcdp` in a job: each rank prints its resources and the device that it would use."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from rcdp_hpc.runtime.comm.connect import connect
from rcdp_hpc.runtime.threads import threads_per_rank
from rcdp_hpc.training.stage import device

comm = connect()
visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
# The devices of the cluster are fake; Slurm allocates them nevertheless.
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: len(visible)
local_resources = {
    "host": os.uname().nodename,
    "visible": visible,
    "device": device().index,
    "cpus_per_task": os.environ["SLURM_CPUS_PER_TASK"],
    "omp": os.environ["OMP_NUM_THREADS"],
    "threads": threads_per_rank(comm),
}
print(f"rank {comm.rank} of {comm.size} was here")
found = comm.allgather(local_resources)
if comm.is_root:
    Path(sys.argv[sys.argv.index("--out") + 1], "probe.json").write_text(json.dumps(found))
