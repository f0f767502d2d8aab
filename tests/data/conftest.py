import gzip
import logging
import struct

import numpy as np
import pytest

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.data.prepare import prepare_shards


def idx_bytes(array: np.ndarray) -> bytes:
    """Return an array in the IDX format, written from the description of the format."""
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def write_idx(path, array):
    data = idx_bytes(np.asarray(array))
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_config(path="", source="npz", seed=1, **data) -> Config:
    return parse_config(
        {"data": {"source": source, "path": str(path), **data}, "run": {"seed": seed, "progress": False}}, "test"
    )


def uneven_data(counts=(60, 30, 12), shape=(4, 3), seed=0):
    """Gaussian clouds, one for each class, in mixed order."""
    generator = np.random.default_rng(seed)
    y = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    x = generator.normal(size=(len(y), *shape)).astype(np.float32) + y.reshape(-1, *(1,) * len(shape))
    return x.astype(np.float32), y


@pytest.fixture(autouse=True)
def _log_is_heard(monkeypatch):
    """Propagate messages, which the tests of the command line switch off in this process."""
    monkeypatch.setattr(logging.getLogger("rcdp_hpc"), "propagate", True)


@pytest.fixture
def npz_file(tmp_path):
    x, y = uneven_data()
    path = tmp_path / "uneven.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture(scope="session")
def digits_shards(tmp_path_factory):
    """Shards of uneven digits, prepared once. Copy them before changing them."""
    directory = tmp_path_factory.mktemp("digits") / "shards"
    keep = [1, 0.5, 0.3, 0.2, 0.1, 0.08, 0.15, 0.6, 0.4, 0.9]
    prepare_shards(make_config(source="digits", class_keep_fractions=keep, shards=5), directory)
    return directory
