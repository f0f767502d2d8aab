"""Made-up samples and their probabilities, which an exported file can check itself with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.model.model_file import ModelFile

COUNT = 2


@dataclass(frozen=True, eq=False)
class CheckSamples:
    """Samples and what a program makes of them.

    Attributes
    ----------
    samples : ndarray, shape (COUNT, *sample_shape)
        Raw samples, of the program's `sample_dtype`; zeros after the end of a series.
    steps : ndarray of int64, shape (COUNT,)
        Steps of each series; 1 if samples have no steps of their own.
    probabilities : ndarray of float32, shape (COUNT, classes)
    """

    samples: NDArray[Any]
    steps: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, program: Program, model: ModelFile) -> CheckSamples:
        """Return uniform samples within the ranges of the training data, the same ones for the same model.

        Each number is within a standard deviation of the mean of its feature, in the numbers of the source. Without
        ranges the mean is 0, and the deviation 1. The second series has half the steps of the longest one.
        """
        shape = (COUNT, *program.sample_shape)
        ranges = model.data.ranges
        samples = np.random.default_rng(0).uniform(-1, 1, shape)
        if ranges is not None and len(ranges) in (1, shape[-1]):
            wide = ranges.mean + samples * ranges.deviation
            samples = np.clip(wide, ranges.minimum, ranges.maximum) / model.scale
            samples = np.rint(samples) if np.dtype(ranges.dtype).kind in "iu" else samples
        samples = samples.astype(program.sample_dtype)
        steps = np.ones(COUNT, np.int64)
        if program.varying_steps:
            longest = program.sample_shape[0]
            steps = longest // 2 ** np.arange(COUNT)
            steps = np.maximum(steps, fewest_steps(program))
            samples[np.arange(longest) >= steps[:, None]] = 0
        lengths = steps if program.varying_steps else None
        return cls(samples, steps, program.run(samples, lengths))


def fewest_steps(program: Program) -> int:
    """Return the steps that a series needs at least."""
    fewest = 1
    for op in reversed(program.ops):
        settings: dict[str, Any] = op.settings
        if op.kind == "reduce":
            first, count = settings.get("warm_up", 0), settings.get("count", 1)
            of_kind = {
                "steps": max((step + 1 if step >= 0 else -step for step in settings.get("steps", [])), default=1),
                "spaced": first + count,
                "all": 1,
            }
            fewest = max(fewest, of_kind.get(settings["name"], first + 1))
        elif op.kind == "windows":
            fewest = settings["size"] + (fewest - 1) * settings["stride"]
    return fewest
