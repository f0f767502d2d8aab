"""The network interface through which the ranks of a job connect: loopback on one node, else a network they share."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import psutil

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree

# Gloo's variable, which names the interface of a rank, or several of them separated by commas.
GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"


class Interface(NamedTuple):
    """An interface with an IPv4 address.

    Attributes
    ----------
    name : str
    address : str
    network : str
        Such as ``10.1.0.0/16``.
    """

    name: str
    address: str
    network: str

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of the same node reach it."""
        return ipaddress.IPv4Address(self.address).is_loopback

    @property
    def is_private(self) -> bool:
        """Whether its address cannot be reached from the internet."""
        return ipaddress.IPv4Address(self.address).is_private


class Node(NamedTuple):
    """The node of a rank.

    Attributes
    ----------
    identity : tuple of str
        Equal for ranks that share a loopback interface.
    own_address : str
        The address that the host's name has, or an empty text.
    interfaces : tuple of Interface
        Those that are up.
    wanted : str
        Name of the interface that the user has chosen, or an empty text.
    """

    identity: tuple[str, ...]
    own_address: str
    interfaces: tuple[Interface, ...]
    wanted: str


def agree_on_interface(comm: Communicator) -> Interface:
    """Return this rank's interface to the other ranks. Collective.

    Raises
    ------
    InputError
        On all ranks, if the nodes of the ranks have no network in common, or a rank lacks the interface that
        GLOO_SOCKET_IFNAME names.
    """
    nodes = comm.allgather(agree(comm, this_node))
    return agree(comm, lambda: choose_interface(nodes, comm.rank))


def choose_interface(nodes: list[Node], rank: int) -> Interface:
    """Return the interface of a rank.

    That is the interface which the user has chosen; if all ranks are on one node, loopback; otherwise the interface to
    a network in which all nodes have an address, the network of the host names first, then private networks.

    Parameters
    ----------
    nodes : list of Node
        Of all ranks.
    rank : int
    """
    own = nodes[rank]
    if own.wanted:
        return _named(own)
    if len({node.identity for node in nodes}) == 1:
        return next((one for one in own.interfaces if one.is_loopback), Interface("lo", "127.0.0.1", "127.0.0.0/8"))
    for network in _by_preference(nodes[0]):
        if _connects(network, nodes):
            return next(one for one in own.interfaces if one.network == network)
    routed = next((one for one in own.interfaces if one.address == own.own_address and not one.is_loopback), None)
    if routed is None:
        raise InputError(
            f"host {own.identity[0]} and the hosts of other ranks have no network in common: set {GLOO_INTERFACE} to "
            f"the interface that connects them ({', '.join(one.name for one in own.interfaces) or 'none is up'})"
        )
    return routed


def _named(node: Node) -> Interface:
    found = next((one for one in node.interfaces if one.name == node.wanted), None)
    if found is None:
        raise InputError(
            f"{GLOO_INTERFACE} names the interface {node.wanted!r}, and host {node.identity[0]} has none of that name "
            f"with an IPv4 address (it has {', '.join(one.name for one in node.interfaces)})"
        )
    return found


def _by_preference(node: Node) -> Iterable[str]:
    """Return the networks of a node: that of its host name, then private ones, then the others."""
    outside = [one for one in node.interfaces if not one.is_loopback]
    outside.sort(key=lambda one: (one.address != node.own_address, not one.is_private))
    return dict.fromkeys(one.network for one in outside)


def _connects(network: str, nodes: list[Node]) -> bool:
    """Return whether all nodes have addresses in a network that differ.

    Bridges for containers and virtual machines have the same address on every node and connect none.
    """
    by_node: dict[tuple[str, ...], str] = {}
    for node in nodes:
        address = next((one.address for one in node.interfaces if one.network == network), None)
        if address is None:
            return False
        by_node[node.identity] = address
    return len(set(by_node.values())) == len(by_node)


def this_node(environ: Mapping[str, str] | None = None) -> Node:
    """Return the node of this process."""
    env = os.environ if environ is None else environ
    wanted = env.get(GLOO_INTERFACE, "").partition(",")[0].strip()
    own_address = ""
    with suppress(OSError):
        own_address = socket.gethostbyname(socket.gethostname())
    return Node(_identity(), own_address, tuple(_interfaces()), wanted)


def _identity() -> tuple[str, ...]:
    """Return what processes that share a loopback interface have in common: host, boot, and network namespace."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as file:
            parts.append(file.read().strip())
        parts.append(os.readlink("/proc/self/ns/net"))
    return tuple(parts)


def _interfaces() -> Iterable[Interface]:
    states = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        if name in states and not states[name].isup:
            continue
        for one in addresses:
            if one.family == socket.AF_INET and one.netmask:
                network = ipaddress.IPv4Network((one.address, one.netmask), strict=False)
                yield Interface(name, one.address, str(network))
