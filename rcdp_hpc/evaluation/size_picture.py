"""The picture of the validation accuracy of a ridge readout at every size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from rcdp_hpc.evaluation.pictures import in_default_style, save_figure
from rcdp_hpc.runtime.digests import read_sealed


@in_default_style
def draw_sizes(curve: Path, path: Path) -> None:
    """Draw the accuracy over the features or nodes that are left, and mark the size of the model.

    Parameters
    ----------
    curve : Path
        ``sizes.json`` of the training.
    path : Path
        The file to write.

    Raises
    ------
    DataDamagedError
        If the file of the curve is damaged.
    """
    content = read_sealed(curve)
    accuracies, total, chosen = 100 * np.array(content["validation_accuracy"]), content["groups"], content["chosen"]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(np.arange(total, 0, -1), accuracies)
    axes.plot([chosen], [accuracies[total - chosen]], "o", label=f"{chosen} of {total}")
    axes.set(xlabel=f"{content['unit']} left", ylabel="accuracy on validation, %")
    if total > 20:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, path)
