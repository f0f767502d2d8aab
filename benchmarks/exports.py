"""Exported models next to the model itself: size, speed on one thread, and differences on test rows.

    python benchmarks/exports.py [RUN] [--repeats 7] [--profiles digits ...] [--quick]

RUN is a run directory with a trained model. Without it, small models of the profiles are trained first. Each line is a
format. The columns are the bytes of its file (of ``.c``: of the compiled program), the milliseconds of one sample that
is predicted alone, those of a sample in a block of 256, the largest difference of probabilities from ``model.pt``, and
the number of other labels, both on the test rows (at most 1000). Times are medians over the repeats, in which the
formats take turns. ``.c`` predicts sample by sample, so both of its times are the same. ``.c`` and ``.mat`` are left
out without a compiler and without Octave.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rcdp_hpc  # noqa: F401  ahead of torch: it sets how OpenMP's threads wait

# isort: split
import numpy as np
import onnxruntime
import scipy.io

from rcdp_hpc.config import load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.deploy.export import rcdp_predict
from rcdp_hpc.deploy.export.check import TestRows, in_single_precision
from rcdp_hpc.deploy.export.export import export
from rcdp_hpc.deploy.export.lowering import lower
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads

BLOCK = 256
# Seconds of one measurement of one format.
SECONDS = 0.3
SETTINGS = ("search.generations=0", "training.threads=1", "run.progress=false")
QUICK = ("reservoir.nodes=50", "training.epochs=2", "data.shards=1")
# Times calls of a compiled model. Reads values of the samples from the first file, writes probabilities to the second.
C_MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int rcdp_predict(const NUMBER *sample, int steps, float *probabilities);
int main(int argc, char **argv)
{
    long rows = atol(argv[3]), classes = atol(argv[4]), steps = atol(argv[5]), values = atol(argv[6]), row, calls = 0;
    NUMBER *samples = malloc(sizeof(NUMBER) * rows * values);
    float *found = malloc(sizeof(float) * rows * classes);
    FILE *file = fopen(argv[1], "rb");
    struct timespec start, end;
    double seconds = 0;
    if (argc != 7 || fread(samples, sizeof(NUMBER), rows * values, file) != (size_t)(rows * values)) return 1;
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (seconds < LEAST) {
        for (row = 0; row < rows; row++, calls++) rcdp_predict(samples + row * values, steps, found + row * classes);
        clock_gettime(CLOCK_MONOTONIC, &end);
        seconds = end.tv_sec - start.tv_sec + 1e-9 * (end.tv_nsec - start.tv_nsec);
    }
    file = fopen(argv[2], "wb");
    fwrite(found, sizeof(float), rows * classes, file);
    fclose(file);
    printf("%.9g", seconds / calls);
    return 0;
}
"""

# Times calls of an exported model in Octave; names of files are filled in.
OCTAVE = """
loaded = load('samples.mat');
model = load('model.mat');
samples = loaded.samples;
function seconds = median_seconds(model, samples, least)
  found = [];
  while sum(found) < least || numel(found) < 3
    start = tic;
    rcdp_predict(model, samples);
    found(end + 1) = toc(start);
  end
  seconds = median(found);
end
[~, probabilities] = rcdp_predict(model, samples);
one = median_seconds(model, reshape(samples(1, :), [1, size(samples)(2:end)]), LEAST);
block = samples(mod(0:BLOCK - 1, rows(samples)) + 1, :);
many = median_seconds(model, reshape(block, [BLOCK, size(samples)(2:end)]), LEAST) / BLOCK;
save('-v6', 'found.mat', 'probabilities', 'one', 'many');
"""


@dataclass
class Format:
    """A format that is measured.

    Attributes
    ----------
    size : int
        Bytes of its file.
    measure : callable
        From samples to probabilities, and the seconds of a sample that is predicted alone and of one in a block.
    alone, blocks : list of float
        Seconds of all repeats.
    found : ndarray
        Probabilities of all test rows.
    """

    size: int
    measure: Callable[[np.ndarray], tuple[np.ndarray, float, float]]
    alone: list[float] = field(default_factory=list)
    blocks: list[float] = field(default_factory=list)
    found: np.ndarray | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a run directory; default: train small models")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--profiles", nargs="+", default=["digits"])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--quick", action="store_true", help="tiny models, one repeat")
    chosen = parser.parse_args()
    repeats = 1 if chosen.quick else chosen.repeats
    with tempfile.TemporaryDirectory(prefix="rcdp-exports-") as folder:
        if chosen.run is not None:
            compare(chosen.run, Path(folder), repeats)
            return
        for profile in chosen.profiles:
            settings = [*SETTINGS, *(QUICK if chosen.quick else ()), *chosen.settings]
            run = Path(folder, profile)
            run_stages(["prepare", "train"], load_config(profile, settings), run)
            print(f"\n{profile}")
            compare(run, Path(folder), repeats)


def compare(path: Path, folder: Path, repeats: int) -> None:
    """Export a run to all formats, measure them in turn, and print the table."""
    run = RunDirectory(path)
    file = in_single_precision(ModelFile.read(run.model))
    shards = ShardReader(run.shards)
    if shards.layout.has_lengths:
        raise SystemExit(f"{path}: its samples are series of unequal length, which this benchmark does not have")
    with limit_threads(1):
        model = TrainedModel(file)
        samples = TestRows.read(shards, model, lower(model, varying_steps=False)).samples
        formats = all_formats(run, file, samples, folder)
        for _ in range(repeats):
            for one in formats.values():
                one.found, alone, in_block = one.measure(samples)
                one.alone.append(alone)
                one.blocks.append(in_block)
    print_table(formats)


def print_table(formats: dict[str, Format]) -> None:
    """Print a line for each format."""
    expected = formats["model.pt"].found
    print(f"{'':<24}{'KiB':>9}{'alone, ms':>12}{'in a block':>12}{'difference':>12}{'other labels':>14}")
    for name, one in formats.items():
        alone, in_block = (1e3 * statistics.median(values) for values in (one.alone, one.blocks))
        difference = np.abs(one.found - expected).max()
        others = int((one.found.argmax(1) != expected.argmax(1)).sum())
        print(f"{name:<24}{one.size / 1024:>9.1f}{alone:>12.4f}{in_block:>12.4f}{difference:>12.1e}{others:>14}")


def all_formats(run: RunDirectory, file: ModelFile, samples: np.ndarray, folder: Path) -> dict[str, Format]:
    """Export a run and return the formats that can run here."""
    model = TrainedModel(file)

    def predict(block: np.ndarray) -> np.ndarray:
        return model.probabilities(block, scaled=False)

    formats = {"model.pt": Format(run.model.stat().st_size, in_process(predict))}
    written = {suffix: folder / f"model.{suffix}" for suffix in ("npz", "onnx", "c")}
    for path in written.values():
        export(run.path, path)
    numpy_model = rcdp_predict.load(written["npz"])
    formats[".npz (NumPy)"] = Format(written["npz"].stat().st_size, in_process(numpy_model.predict_proba))
    formats[".onnx (onnxruntime)"] = Format(written["onnx"].stat().st_size, in_process(onnx_predictor(written["onnx"])))
    if compiler := shutil.which("cc"):
        program = compiled(compiler, written["c"], samples, folder)
        formats[".c (cc -O2)"] = Format(program.stat().st_size, c_program(program, len(file.classes), folder))
    if octave := shutil.which("octave-cli"):
        export(run.path, folder / "model.mat")
        formats[".mat (Octave)"] = Format((folder / "model.mat").stat().st_size, octave_script(octave, folder))
    return formats


def in_process(predict: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], tuple[np.ndarray, float, float]]:
    """Return the measurement of a function of this process."""

    def measure(samples: np.ndarray) -> tuple[np.ndarray, float, float]:
        block = np.resize(samples, (BLOCK, *samples.shape[1:]))
        alone = seconds_of(lambda number: predict(samples[number % len(samples)][None]))
        return predict(samples), alone, seconds_of(lambda _: predict(block)) / BLOCK

    return measure


def seconds_of(call: Callable[[int], Any]) -> float:
    """Return the median seconds of a call, over `SECONDS` seconds."""
    call(0)
    found: list[float] = []
    while sum(found) < SECONDS or len(found) < 3:
        started = time.perf_counter()
        call(len(found))
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def onnx_predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that predicts with onnxruntime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda samples: session.run(["probabilities"], {"samples": samples})[0]


def compiled(compiler: str, source: Path, samples: np.ndarray, folder: Path) -> Path:
    """Return the program that times the model of a C file."""
    timing, program = folder / "timing.c", folder / "model"
    number = "double" if samples.dtype == np.float64 else "float"
    timing.write_text(C_MAIN.replace("NUMBER", number).replace("LEAST", str(SECONDS)))
    subprocess.run([compiler, "-O2", "-DRCDP_NO_MAIN", "-o", program, source, timing, "-lm"], check=True)
    return program


def c_program(program: Path, classes: int, folder: Path) -> Callable[[np.ndarray], tuple[np.ndarray, float, float]]:
    """Return the measurement of a compiled model."""

    def measure(samples: np.ndarray) -> tuple[np.ndarray, float, float]:
        samples.tofile(folder / "samples.bin")
        counts = [len(samples), classes, samples.shape[1], samples[0].size]
        command = [program, folder / "samples.bin", folder / "found.bin", *map(str, counts)]
        seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return np.fromfile(folder / "found.bin", np.float32).reshape(-1, classes), seconds, seconds

    return measure


def octave_script(octave: str, folder: Path) -> Callable[[np.ndarray], tuple[np.ndarray, float, float]]:
    """Return the measurement of a model in Octave."""
    script = OCTAVE.replace("LEAST", str(SECONDS)).replace("BLOCK", str(BLOCK))

    def measure(samples: np.ndarray) -> tuple[np.ndarray, float, float]:
        scipy.io.savemat(folder / "samples.mat", {"samples": samples})
        command = [octave, "--norc", "--no-history", "--quiet", "--eval", script]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        found = scipy.io.loadmat(folder / "found.mat")
        return found["probabilities"], float(found["one"].item()), float(found["many"].item())

    return measure


if __name__ == "__main__":
    main()
