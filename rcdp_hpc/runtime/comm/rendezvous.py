"""Heartbeats in horovodrun's Gloo mode, through the launcher's key-value store, which outlives every rank."""

from __future__ import annotations

import os
from http.client import HTTPConnection

from rcdp_hpc.runtime.comm.entry_channel import EntryChannel
from rcdp_hpc.runtime.comm.launcher import Launch

SCOPE = "rcdp-heartbeat"
TIMEOUT_SECONDS = 5.0


class RendezvousChannel(EntryChannel):
    """Entries in horovodrun's store.

    Parameters
    ----------
    launch : Launch
        A launch by horovodrun with Gloo, whose environment variables hold the address of the store.
    """

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch.rank, launch.size)
        self._address = os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"]
        self._port = int(os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"])

    def put(self, entry: bytes) -> None:
        """Replace the entry of this rank."""
        self._request("PUT", self.rank, entry)

    def get(self, rank: int) -> bytes | None:
        """Return the entry of a rank; None if it has none yet."""
        return self._request("GET", rank)

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
