"""Heartbeats through a key-value store: each rank has an entry with a counter."""

from __future__ import annotations

import json
import os
import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import NoReturn

from rcdp_hpc.runtime.comm.heartbeat import Channel, Place, this_place


class EntryChannel(Channel):
    """A channel in which each rank increments a counter in a store; a changed counter is a sign of life.

    Parameters
    ----------
    rank, size : int
    """

    cheap = False

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.places: dict[int, Place] = {}
        self._count = 0
        self._last: dict[int, int] = {}

    @abstractmethod
    def put(self, entry: bytes) -> None:
        """Replace the entry of this rank, which all ranks can read."""

    @abstractmethod
    def get(self, rank: int) -> bytes | None:
        """Return the entry of a rank; None if it has none yet."""

    def send(self, word: bytes, to: Sequence[int]) -> None:
        """Increment the counter of this rank."""
        self._count += 1
        entry = {"count": self._count, "word": word.decode(), "place": this_place()}
        self.put(json.dumps(entry).encode())

    def receive(self, sources: Sequence[int]) -> dict[int, bytes]:
        """Return the words of the entries whose counter has changed."""
        words = {}
        for rank in sources:
            text = self.get(rank)
            if text is None:
                continue
            entry = json.loads(text)
            self.places[rank] = Place(*entry["place"])
            if self._last.get(rank) != entry["count"]:
                self._last[rank], words[rank] = entry["count"], str(entry["word"]).encode()
        return words

    def abort(self, code: int) -> NoReturn:
        """Exit at once; the launcher then ends the other ranks."""
        exit_at_once(code)


def exit_at_once(code: int) -> NoReturn:
    """End this process without its exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
