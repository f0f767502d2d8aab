"""The reliability diagram as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rcdp_hpc.evaluation.pictures import in_default_style, save_figure

NAMES = {"model": "model itself", "reported": "as reported"}


@in_default_style
def draw_reliability(content: dict[str, Any], path: Path) -> None:
    """Draw accuracy over probability of each bin, with the number of rows of the bins below.

    Parameters
    ----------
    content : dict
        Of ``reliability.json``.
    path : Path
        The file to write.
    """
    figure = Figure(figsize=(4.8, 5.4), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle=":")
    present = [name for name in NAMES if name in content]
    width = 1 / content["bins"] / len(present)
    for number, name in enumerate(present):
        kind = content[name]
        places = np.array([np.nan if value is None else value for value in kind["probability"]])
        accuracies = np.array([np.nan if value is None else value for value in kind["accuracy"]])
        axes.plot(places, accuracies, "os"[number] + "-", label=f"{NAMES[name]}, ECE {kind['ece']:.3f}")
        left = np.arange(content["bins"]) / content["bins"] + number * width
        counts.bar(left, kind["rows"], width, align="edge")
    axes.set(ylabel="share of right test samples", xlim=(0, 1), ylim=(0, 1))
    counts.set(xlabel="largest probability", ylabel="test samples")
    counts.set_yscale("symlog", linthresh=1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    save_figure(figure, path)
