"""Heartbeats in horovodrun's Gloo mode, through the launcher's key-value store, which outlives every rank."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from typing import NoReturn

from rcdp_hpc.runtime.comm.heartbeat import Channel, Place, this_place
from rcdp_hpc.runtime.comm.launch import Launch

SCOPE = "rcdp-heartbeat"
TIMEOUT_SECONDS = 5.0


class RendezvousChannel(Channel):
    """A channel in which each rank increments a counter in the store; a changed counter is a sign of life.

    Parameters
    ----------
    launch : Launch
        A launch by horovodrun with Gloo, whose environment variables hold the address of the store.
    """

    cheap = False

    def __init__(self, launch: Launch) -> None:
        self.rank = launch.rank
        self.size = launch.size
        self.places: dict[int, Place] = {}
        self._address = os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"]
        self._port = int(os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"])
        self._count = 0
        self._last: dict[int, int] = {}

    def send(self, word: bytes, to: Sequence[int]) -> None:
        """Increment the counter of this rank, which all ranks can read."""
        self._count += 1
        entry = {"count": self._count, "word": word.decode(), "place": this_place()}
        self._request("PUT", self.rank, json.dumps(entry).encode())

    def receive(self, sources: Sequence[int]) -> dict[int, bytes]:
        """Return the words of the entries whose counter has changed."""
        words = {}
        for rank in sources:
            text = self._request("GET", rank)
            if text is None:
                continue
            entry = json.loads(text)
            self.places[rank] = Place(*entry["place"])
            if self._last.get(rank) != entry["count"]:
                self._last[rank], words[rank] = entry["count"], str(entry["word"]).encode()
        return words

    def abort(self, code: int) -> NoReturn:
        """Exit at once; horovodrun then ends the other ranks."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _request(self, method: str, rank: int, body: bytes | None = None) -> bytes | None:
        """Return the response of the store; None if it has no entry for the rank."""
        connection = HTTPConnection(self._address, self._port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, f"/{SCOPE}/{rank}", body)
            answer = connection.getresponse()
            content = answer.read()
            return content if answer.status == 200 else None
        finally:
            connection.close()
