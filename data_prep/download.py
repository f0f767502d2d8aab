#!/usr/bin/env python3
"""Fetch a data set from its official address, resumed where broken off, and checked before it is put in place.

    python data_prep/download.py mnist --to FOLDER
    python data_prep/download.py fashion-mnist --to FOLDER
    python data_prep/download.py cifar10 --to FOLDER [--url ADDRESS]

Needs nothing but Python. What is broken off stays as NAME.part, and the next call goes on from there.

Where the addresses and MD5 sums were published:

- Fashion-MNIST: the table "Get the Data" in the README of https://github.com/zalandoresearch/fashion-mnist;
- CIFAR-10: the table of downloads on https://www.cs.toronto.edu/~kriz/cifar.html, repeated in
  torchvision/datasets/cifar.py;
- MNIST: its page, http://yann.lecun.com/exdb/mnist/, gave no sums. These are of its four files, as
  torchvision/datasets/mnist.py (https://github.com/pytorch/vision) has them, with the address of the mirror.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 2**18
ATTEMPTS = 5
TIMEOUT = 60.0
PAUSE = 1.0


@dataclass(frozen=True)
class DataSet:
    """Files with their published MD5, and where they lie."""

    url: str
    files: dict[str, str]


SETS = {
    # Yann LeCun's own address has long refused downloads; this mirror serves the same bytes.
    "mnist": DataSet(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": DataSet(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "cifar10": DataSet(
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    ),
}


class DownloadError(Exception):
    """The file could not be fetched, or is not what was published."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, and return the exit code: 0 done, 1 not."""
    parser = argparse.ArgumentParser(description="Fetch a data set from its official address, and check it.")
    parser.add_argument("name", choices=sorted(SETS), help="which data set")
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="where to put it")
    parser.add_argument("--url", help="another address of the same files")
    options = parser.parse_args(arguments)
    chosen = SETS[options.name]
    base = (options.url or chosen.url).rstrip("/") + "/"
    try:
        options.to.mkdir(parents=True, exist_ok=True)
        for name, md5 in chosen.files.items():
            fetch(base + name, options.to / name, md5)
    except (DownloadError, OSError) as error:
        print(f"download: error: {error}", file=sys.stderr)
        return 1
    return 0


def fetch(url: str, target: Path, md5: str, attempts: int = ATTEMPTS, pause: float = PAUSE) -> None:
    """Fetch a file, unless it is there already with the right content.

    Parameters
    ----------
    url : str
        Where it lies.
    target : Path
        Where it shall lie. It is written to ``NAME.part`` and moved when its checksum is right.
    md5 : str
        The published checksum.
    attempts : int
        Times that the connection may break without anything new.
    pause : float
        Seconds between attempts, longer each time.

    Raises
    ------
    DownloadError
        If the connection keeps breaking, or the content has another checksum; an earlier file stays as it was.
    """
    if target.is_file() and checksum(target) == md5:
        print(f"{target}: there already")
        return
    part = target.with_name(target.name + ".part")
    fresh = not part.exists()
    while True:
        _fill(url, part, attempts, pause)
        found = checksum(part)
        if found == md5:
            os.replace(part, target)
            print(f"{target}: {target.stat().st_size} bytes, checksum right")
            return
        part.unlink()
        # What was left from before may have been of another file: once more, from the beginning.
        if fresh:
            raise DownloadError(f"{url}: MD5 {found}, published is {md5}: not the official file. Nothing was kept.")
        fresh = True


def _fill(url: str, part: Path, attempts: int, pause: float) -> None:
    failures, reason = 0, ""
    while failures < attempts:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _transfer(url, part):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code == 416 and before:
                # Nothing lies beyond what is there: it is whole, or of another file, which its checksum tells.
                return
            if error.code < 500:
                raise DownloadError(f"{url}: {error.code} {error.reason}. Give another address with --url.") from None
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        time.sleep(pause * failures)
    raise DownloadError(f"{url}: {reason}, {attempts} times without a new byte. Start again to go on from {part}.")


def _transfer(url: str, part: Path) -> bool:
    """Append what is missing; return whether all came that was announced."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if start and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            # A server that knows no ranges sends the file from its beginning.
            start = 0
        announced = answer.headers.get("Content-Length")
        received = 0
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while block := answer.read(BLOCK):
                file.write(block)
                received += len(block)
    return announced is None or received == int(announced)


def checksum(path: Path) -> str:
    """Return the MD5 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
