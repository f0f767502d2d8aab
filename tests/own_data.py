"""Data that a user might have, of each kind: raw files for training, and new ones without labels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("low", "mid", "high")
COUNTS = (60, 36, 24)
NEW = 9


@dataclass(frozen=True)
class OwnData:
    """Paths of the data and of new samples, and the names and true classes of the new ones."""

    data: Path
    new: Path
    names: list[str]
    truth: list[str]


def table(folder: Path) -> OwnData:
    """Three classes of four features with unlike scales, with ids."""
    generator = np.random.default_rng(0)
    labels = [name for name, count in zip(CLASSES, COUNTS, strict=True) for _ in range(count)]

    def row(label: str) -> list[float]:
        center = 2.0 * CLASSES.index(label)
        values = (generator.normal(size=4) * 0.5 + [center, -center, center, 0]) * [1, 1000, 0.01, 1]
        return [float(f"{value:.6g}") for value in values]

    def write(path: Path, rows: list[str], first: int, with_label: bool) -> None:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "width", "weight", "ratio", "noise", *(["species"] if with_label else [])])
            for number, label in enumerate(rows, first):
                writer.writerow([f"plant-{number}", *row(label), *([label] if with_label else [])])

    order = generator.permutation(len(labels))
    write(folder / "mine.csv", [labels[place] for place in order], 0, True)
    truth = [CLASSES[number % 3] for number in range(NEW)]
    write(folder / "new.csv", truth, 500, False)
    return OwnData(folder / "mine.csv", folder / "new.csv", [f"plant-{500 + n}" for n in range(NEW)], truth)


def series(folder: Path, counts: tuple[int, ...] = COUNTS, steps: tuple[int, int] = (12, 30)) -> OwnData:
    """Sines of three frequencies and of unequal length (`steps`, the last excluded), in two dimensions."""
    generator = np.random.default_rng(1)

    def line(label: str) -> str:
        angles = np.arange(generator.integers(*steps)) * (0.3 + 0.45 * CLASSES.index(label)) + generator.uniform(0, 6)
        both = (np.sin(angles) * 100, np.cos(angles) * 0.1)
        return ":".join(",".join(f"{value:.4f}" for value in dimension) for dimension in both)

    header = "@problemName Waves\n@timeStamps false\n@univariate false\n"
    labels = [name for name, count in zip(CLASSES, counts, strict=True) for _ in range(count)]
    lines = [f"{line(label)}:{label}" for label in labels]
    (folder / "mine.ts").write_text(f"{header}@classLabel true {' '.join(CLASSES)}\n@data\n" + "\n".join(lines) + "\n")
    truth = [CLASSES[number % 3] for number in range(NEW)]
    (folder / "new.ts").write_text(f"{header}@classLabel false\n@data\n" + "\n".join(map(line, truth)) + "\n")
    return OwnData(folder / "mine.ts", folder / "new.ts", [str(n) for n in range(NEW)], truth)


def images(folder: Path) -> OwnData:
    """Stripes of three directions in colour images of one size."""
    generator = np.random.default_rng(2)

    def image(label: str) -> Image.Image:
        down, across = np.mgrid[:24, :24] + generator.uniform(0, 9)
        phase = {"low": down, "mid": across, "high": down + across}[label]
        grey = 120 + 80 * np.sin(phase * 1.3)[:, :, None] + generator.normal(0, 12, (24, 24, 3))
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8))

    for name, count in zip(CLASSES, COUNTS, strict=True):
        (folder / "mine" / name).mkdir(parents=True)
        for number in range(count):
            image(name).save(folder / "mine" / name / f"{number}.png")
    (folder / "new").mkdir()
    truth = [CLASSES[number % 3] for number in range(NEW)]
    names = [f"photo {number}.{('png', 'jpg', 'bmp')[number % 3]}" for number in range(NEW)]
    for name, label in zip(names, truth, strict=True):
        image(label).save(folder / "new" / name, quality=95)
    return OwnData(folder / "mine", folder / "new", names, truth)


KINDS = {"table": table, "series": series, "images": images}


def data_section(kind: str, data: Path) -> str:
    """Return the section ``[data]`` of a configuration that reads data of a kind, as TOML."""
    source = {"table": "csv", "series": "ts", "images": "image_folder"}[kind]
    columns = 'label_column = "species"\nid_column = "id"\n' if kind == "table" else ""
    return f'[data]\nsource = "{source}"\npath = "{data}"\n{columns}'
