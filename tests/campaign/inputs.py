"""Small data sets of each kind, a configuration for each run, and code of a user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import own_data

CLASSES = ("low", "mid", "high")
COUNTS = (40, 28, 20)

USER_CODE = '''"""A fitness and a readout of a user."""
import torch


def judge(values, data):
    return 1.0 / (1.0 + (values["leak"] - 0.4) ** 2 + values["density"])


class Readout(torch.nn.Module):
    def __init__(self, steps, features, classes):
        super().__init__()
        self.layer = torch.nn.Linear(steps * features, classes)

    def forward(self, states):
        return self.layer(states.flatten(1))
'''

# Kernel and block are fixed, because measured ones may differ from run to run.
RESERVOIR = '[reservoir]\nnodes = 24\nkernel = "dense-fp32"\nbatch_rows = 64\n'
SEARCH = "[search]\npopulation = 3\ngenerations = 4\ntrain_rows = 80\nvalidation_rows = 40\n"
TRAINING = "[training]\nepochs = 4\nbatch = 16\n[readout]\nhidden = 8\noutputs = 8\n[checkpoint]\nevery_epochs = 1\n"


def write_table(folder: Path) -> None:
    """Write mine.csv and new.csv: three classes, four features of different scales, a category, ids."""
    generator = np.random.default_rng(0)

    def row(number: int, label: str) -> list[str]:
        center = 2.0 * CLASSES.index(label)
        values = (generator.normal(size=4) * 0.5 + [center, -center, center, 0]) * [1, 1000, 0.01, 1]
        colour = ("red", "green", "blue")[int(generator.integers(3))]
        return [f"plant-{number}", *(f"{value:.5g}" for value in values), colour]

    labels = [name for name, count in zip(CLASSES, COUNTS, strict=True) for _ in range(count)]
    head = "id,width,weight,ratio,noise,colour"
    mine = [",".join([*row(number, label), label]) for number, label in enumerate(labels)]
    new = [",".join(row(500 + number, CLASSES[number % 3])) for number in range(9)]
    (folder / "mine.csv").write_text("\n".join([f"{head},species", *mine]) + "\n")
    (folder / "new.csv").write_text("\n".join([head, *new]) + "\n")


def write_series(folder: Path) -> None:
    """Write mine.ts and new.ts: short series of three classes, of unequal length."""
    own_data.series(folder, COUNTS, (8, 14))


def images(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return stripes of three directions as bytes, (samples, 8, 8, 1), and their labels."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), COUNTS)
    down, across = np.mgrid[:8, :8]
    phase = np.stack([down, across, down + across])[labels] + generator.uniform(0, 6, (len(labels), 1, 1))
    grey = 120 + 80 * np.sin(phase * 1.3) + generator.normal(0, 12, phase.shape)
    return grey.clip(0, 255).astype(np.uint8)[..., None], labels


def write_images(folder: Path) -> None:
    """Write mine.npz and new.npz."""
    x, y = images()
    np.savez(folder / "mine.npz", x=x, y=y)
    np.savez(folder / "new.npz", x=images(4)[0][::9])


def write_matrices(path: Path, nodes: int = 24, features: int = 5) -> None:
    """Write reservoir matrices of a user."""
    generator = np.random.default_rng(2)
    np.savez(
        path, recurrent=generator.normal(size=(nodes, nodes)) * 0.1, input=generator.normal(size=(nodes, features))
    )


def table_section(folder: Path, extra: str = "") -> str:
    """Return the section of a configuration that reads mine.csv."""
    return (
        f'[data]\nsource = "csv"\npath = "{folder}/mine.csv"\nlabel_column = "species"\nid_column = "id"\n'
        f'category_columns = ["colour"]\nbalance = "smotenc"\nshards = 2\n{extra}'
    )


def series_section(folder: Path) -> str:
    """Return the section of a configuration that reads mine.ts."""
    return f'[data]\nsource = "ts"\npath = "{folder}/mine.ts"\nbalance = "smote"\nshards = 2\n'


def write_all(folder: Path) -> None:
    """Write all data, the user's code and one configuration for each run into a folder."""
    folder.mkdir(parents=True)
    write_table(folder)
    write_series(folder)
    write_images(folder)
    write_matrices(folder / "own.npz")
    (folder / "code").mkdir()
    (folder / "code" / "campaign_user.py").write_text(USER_CODE)
    run = "[run]\nprogress = false\n"
    configs = {
        "table": run + table_section(folder, "reserve = 0.1\n") + RESERVOIR + SEARCH + TRAINING,
        "series": run + series_section(folder) + RESERVOIR + SEARCH.replace("generations = 4", "generations = 2")
        + TRAINING.replace("[readout]\n", '[readout]\nkind = "ridge"\n')
        + '[extractor]\nkind = "kernels"\nkernels = 336\n',
        "images": run + f'[data]\nsource = "npz"\npath = "{folder}/mine.npz"\nshards = 2\n' + RESERVOIR
        + SEARCH.replace("generations = 4", "generations = 0")
        + TRAINING.replace("[readout]\n", '[readout]\nkind = "ridge"\n'),
        "code": run + table_section(folder, 'reserve = 0.2\non_damage = "replace"\n')
        + RESERVOIR + f'matrices = "{folder}/own.npz"\n'
        + SEARCH + 'evaluation = "function"\nfunction = "campaign_user:judge"\n[search.space]\n'
        "leak = { low = 0.1, high = 1.0 }\n"
        "density = { low = 0.01, high = 0.3 }\n"
        + TRAINING.replace("[readout]\n", '[readout]\nkind = "campaign_user:Readout"\n'),
        "long": run + table_section(folder, "reserve = 0.1\n") + RESERVOIR
        + SEARCH.replace("generations = 4", "generations = 2000")
        + TRAINING.replace("epochs = 4", "epochs = 5000\npatience = 5000"),
        "measured": run + table_section(folder) + "[reservoir]\nnodes = 24\n" + SEARCH + TRAINING,
        "folds": run + table_section(folder) + RESERVOIR + SEARCH.replace("generations = 4", "generations = 0")
        + TRAINING.replace("epochs = 4", "epochs = 2"),
    }  # fmt: skip
    for name, text in configs.items():
        (folder / f"{name}.toml").write_text(text)
