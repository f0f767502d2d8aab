"""Torch calls of a training step of each profile, which decide how fast a GPU can train small networks.

    python benchmarks/step_calls.py [PROFILE ...] [--set KEY=VALUE] [--operations]

A call is an operation that reaches torch's dispatcher below autograd, as a TorchDispatchMode sees it: kernels, copies
(also those to the host), fills and new tensors, also those of backward passes. Views (``view``, ``t``, ``expand``,
``detach``, ...) do not count: they start nothing on a device. An operation that torch composes of others counts as
those others; one over many tensors (``_foreach_add_``, ``_fused_adam_``) counts once.

The program trains each profile for an epoch of four steps and for one of two, on random samples of the profile's shape
and one rank of the CPU. A step is half the difference, so that everything that a step repeats counts, wherever it is,
and nothing that happens once (first step of the optimiser, validation, metrics). The Python functions on the stack of a
call tell its part. ``rest`` is what belongs to none of the parts: sums, masks, moving averages.

Batches have 16 rows and reservoirs 50 nodes: the number of calls depends on neither.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rcdp_hpc.config import load_config
from rcdp_hpc.networks.assembly import build_network, make_source
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.states.cache import CachedStates

# The shape of a sample of each profile that trains with gradients.
SHAPES = {
    "digits": (8, 8),
    "mnist": (28, 28),
    "mnist-convolution": (28, 28),
    "cifar10": (32, 32, 3),
    "cifar10-long": (32, 32, 3),
    "paper-mnist": (28, 28),
    "paper-lstm": (28, 28),
    "paper-cifar10": (32, 32, 3),
}
PARTS = ("fetch", "forward", "backward", "gradient norm", "update", "rest")
SETTINGS = ("training.epochs=1", "training.baseline=false", "schedule.warmup_epochs=0", "reservoir.kernel=dense-fp32")
CLASSES = 10
ROWS = 16
# What a frame of the stack, as its file and function, says about a call; the first line that fits decides.
FRAMES: tuple[tuple[str, str, str], ...] = (
    ("torch/autograd/", "_engine_run_backward", "backward"),
    ("torch/optim/", "", "update"),
    ("training/optim/optimizers/", "", "update"),
    ("training/optim/gradients", "shrink", "update"),
    ("training/optim/gradients", "", "gradient norm"),
    ("training/states/", "", "fetch"),
    ("training/partition/mixup", "", "fetch"),
    ("training/teacher", "", "fetch"),
    ("training/step", "fetch", "fetch"),
    ("training/loop", "fetch", "fetch"),
    ("networks/", "", "forward"),
    ("training/optim/objective", "", "forward"),
    ("training/step", "_accumulate", "forward"),
    ("training/step", "compute", "forward"),
)


class CallCounter(TorchDispatchMode):
    """Counts the calls within a ``with`` block.

    Attributes
    ----------
    parts : Counter of str
        Calls of each of `PARTS`.
    operations : Counter of (str, str)
        Calls of each part and operation.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it out

    def __init__(self) -> None:
        super().__init__()
        self.parts: Counter[str] = Counter()
        self.operations: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if starts_something(operation):
            part = part_of(sys._getframe(1))
            self.parts[part] += 1
            self.operations[part, str(operation)] += 1
        return operation(*args, **(kwargs or {}))


def starts_something(operation: Any) -> bool:
    """Return whether an operation is more than a view or a mark of the profiler."""
    aliases = (value.alias_info for value in operation._schema.returns)
    is_view = any(alias is not None and not alias.is_write for alias in aliases)
    return not (is_view or operation.namespace == "profiler" or operation is torch.ops.aten._unsafe_view.default)


def part_of(frame: FrameType | None) -> str:
    """Return the part of a step that a stack of frames belongs to."""
    least = len(FRAMES)
    while frame is not None and least:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        for place, (folder, name, _) in enumerate(FRAMES[:least]):
            if folder in file and name in function:
                least = place
                break
        frame = frame.f_back
    return FRAMES[least][2] if least < len(FRAMES) else "rest"


def trainer_of(
    profile: str,
    steps: int,
    settings: Sequence[str] = (),
    device: str = "cpu",
    batch: int = ROWS,
    nodes: int = 50,
    rows: int = 0,
) -> Trainer:
    """Return a trainer of a profile for one epoch of this number of steps, with random samples.

    Parameters
    ----------
    profile : str
        One of `SHAPES`.
    steps : int
    settings : sequence of str
        ``section.key=value``, in addition to the profile's.
    device : str
        Device of the states and the network.
    batch, nodes : int
        Rows of a batch, and nodes of the reservoir; 0 takes those of the profile.
    rows : int
        Training rows; 0 fills all batches of the steps.
    """
    sizes = [f"training.batch={batch}"] if batch else []
    sizes += [f"reservoir.nodes={nodes}"] if nodes else []
    config = load_config(profile, [*SETTINGS, *sizes, *settings])
    shape = SHAPES[profile]
    source = make_source(config, shape, torch.device(device))
    network = build_network(config, shape, source, CLASSES, 0)
    rows = rows or steps * config.training.batch * config.training.accumulate
    generator = torch.Generator().manual_seed(0)
    states = torch.rand(rows, source.width, generator=generator)
    splits = [CachedStates(states.to(device), (torch.arange(rows) % CLASSES).to(device), 0) for _ in range(2)]
    plan = BatchPlan(rows, config.training.batch, config.partition.count, 0, 1, 0)
    return Trainer(config, 0, CLASSES, network, splits[0], splits[1], plan, SingleProcess(), single_process())


def count_epoch(trainer: Trainer) -> CallCounter:
    """Train an epoch, and return the calls counted."""
    with CallCounter() as counter:
        trainer.run(lambda: None, lambda report: None)
    return counter


def step_calls(profile: str, settings: Sequence[str] = ()) -> CallCounter:
    """Return the calls of one step of a profile."""
    few, more = (count_epoch(trainer_of(profile, steps, settings)) for steps in (2, 4))
    for kind in ("parts", "operations"):
        counts, earlier = getattr(more, kind), getattr(few, kind)
        counts.subtract(earlier)
        setattr(more, kind, Counter({name: round(count / 2) for name, count in counts.items() if count}))
    return more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="*", metavar="PROFILE", help=f"default: {' '.join(SHAPES)}")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--operations", action="store_true", help="also list the operations of each part")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.profiles if name not in SHAPES]
    if unknown:
        parser.error(f"{unknown[0]} is not one of {', '.join(SHAPES)}, the profiles that train with gradients")
    print(f"{'profile':20}{'total':>7}" + "".join(f"{part:>15}" for part in PARTS))
    with limit_threads(1):
        for profile in chosen.profiles or SHAPES:
            counted = step_calls(profile, chosen.settings)
            print(line_of(profile, counted.parts), flush=True)
            if chosen.operations:
                for (part, operation), count in sorted(counted.operations.items(), key=lambda item: -item[1]):
                    print(f"    {count:5}  {part:15}{operation}")


def line_of(profile: str, parts: Mapping[str, int]) -> str:
    """Return the line of a profile in the table."""
    return f"{profile:20}{sum(parts.values()):7}" + "".join(f"{parts.get(part, 0):15}" for part in PARTS)


if __name__ == "__main__":
    main()
