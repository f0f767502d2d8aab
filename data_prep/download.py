#!/usr/bin/env python3
"""Fetch a data set from its official address; resume an interrupted download, and verify the checksum.

    python data_prep/download.py mnist --to FOLDER
    python data_prep/download.py fashion-mnist --to FOLDER
    python data_prep/download.py cifar10 --to FOLDER [--url ADDRESS]

It needs only Python. An interrupted download stays as NAME.part, and the next call resumes it.

Sources of the addresses and MD5 sums:

- Fashion-MNIST: the table "Get the Data" in the README of https://github.com/zalandoresearch/fashion-mnist;
- CIFAR-10: the table of downloads on https://www.cs.toronto.edu/~kriz/cifar.html, repeated in
  torchvision/datasets/cifar.py;
- MNIST: its page, http://yann.lecun.com/exdb/mnist/, has no sums. The sums of its four files and the address of the
  mirror are those of torchvision/datasets/mnist.py (https://github.com/pytorch/vision).
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
    """The address of a data set, and its files with their published MD5."""

    url: str
    files: dict[str, str]


SETS = {
    # The original address refuses downloads; this mirror serves the same bytes.
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
    """The file could not be fetched, or differs from the published file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch a data set, and return the exit code: 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description="Fetch a data set from its official address, and check it.")
    parser.add_argument("name", choices=sorted(SETS), help="data set")
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER", help="folder for the files")
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
    """Fetch a file, unless it exists with the right content.

    Parameters
    ----------
    url : str
        Address of the file.
    target : Path
        Path for the file. It is written to ``NAME.part`` and moved when its checksum is right.
    md5 : str
        The published checksum.
    attempts : int
        Attempts without a new byte before the download fails.
    pause : float
        Seconds before the second attempt; later pauses are longer.

    Raises
    ------
    DownloadError
        If all attempts fail, or the content has another checksum. An earlier file is not changed.
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
        # The part of an earlier call may belong to another file: fetch the file again from its beginning.
        if fresh:
            raise DownloadError(f"{url}: MD5 {found}, published is {md5}: not the official file. It was deleted.")
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
                # The file has no more bytes: it is complete or another file, which the checksum decides.
                return
            if error.code < 500:
                raise DownloadError(f"{url}: {error.code} {error.reason}. Give another address with --url.") from None
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > before else failures + 1
        time.sleep(pause * failures)
    raise DownloadError(f"{url}: {reason}, {attempts} times without a new byte. Start again to resume from {part}.")


def _transfer(url: str, part: Path) -> bool:
    """Append the missing bytes; return whether the announced number was received."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if start and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
            # A server without support for ranges sends the file from its beginning.
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
    """Return the MD5 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
