"""Keeps a client away from addresses that only this machine or its network can reach.

A URL that somebody else wrote, such as that of a webhook, may name ``localhost``, the metadata service of a
cloud or a database (server-side request forgery). To look at the URL is not enough: a name may lead
anywhere, and to another place a moment later (DNS rebinding). So the guard stands where connections are
made: it resolves the name once, looks at every address, and connects to one that it has looked at. It sees
each redirect and each link, because they need connections, too.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

from resilience import _clock
from resilience_httpx._errors import HTTPClientError
from resilience_httpx._packages import UnsupportedProtocol, classes, httpx

T = TypeVar("T")
Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_CLIENTS = classes(httpx.AsyncClient)
_TRANSPORTS = classes(httpx.AsyncHTTPTransport)

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address

# The protocol assignments of IANA, of which older versions of Python know only parts.
_ASSIGNED = (IPv4Network("192.0.0.0/24"), IPv6Network("2001::/23"), IPv6Network("64:ff9b:1::/48"))


class AddressRefusedError(HTTPClientError, UnsupportedProtocol):
    """A URL leads to an address that is not public; nothing was sent.

    It is an ``httpx.UnsupportedProtocol``, one of the errors that are never retried and say nothing about
    a server. Its text names the host, but not the address, which tells of the network inside.
    """

    default_code = "address_refused"


def public_addresses_only(client: T, *, allow: str | Sequence[str] = ()) -> T:
    """Let a client connect to public addresses only.

    Refused are loopback, private, link-local, multicast, reserved and unspecified addresses, and IPv6
    addresses that stand for such IPv4 ones (mapped, 6to4, NAT64). If one address of a name is refused,
    the name is. Do it before the first request: connections that are open stay so. Doing it again replaces
    ``allow``.

    Args:
        client: A client, or an ``AsyncHTTPTransport``, of httpx or httpx2. Not one with proxies, also from
            the environment (``trust_env=False`` leaves them out): they connect to the target by themselves.
        allow: Networks that are allowed nevertheless, such as ``"10.1.0.0/16"``.

    Returns:
        The client.

    Raises:
        TypeError: If it is no such client or transport, or has another backend.
        ValueError: If it has proxies or a unix socket, or ``allow`` has what is no network.

    Example:
        >>> from resilience_httpx import ResilientClient
        >>> client = public_addresses_only(ResilientClient(trust_env=False))
    """
    networks = _networks(allow)
    for transport in _transports(client):
        pool = transport._pool  # noqa: SLF001 - httpx lets nobody choose the network backend
        backend = pool._network_backend  # noqa: SLF001
        inner = backend.inner if isinstance(backend, GuardedBackend) else backend
        core = importlib.import_module(type(pool).__module__.partition(".")[0])
        pool._network_backend = GuardedBackend(inner, core, networks)  # noqa: SLF001
    return client


def is_public(address: Address) -> bool:
    """Whether an address can be reached from anywhere."""
    meant = _meant(address)
    refused = (
        meant.is_multicast
        or meant.is_reserved
        or meant.is_unspecified
        or meant.is_loopback
        or meant.is_link_local
        or getattr(meant, "is_site_local", False)
        or any(meant in network for network in _ASSIGNED)
    )
    return meant.is_global and not refused


class GuardedBackend:
    """Makes connections to addresses that it has looked at; an ``AsyncNetworkBackend`` of httpcore.

    Args:
        inner: Makes the connections.
        core: The package that it is of, httpcore or httpcore2.
        allow: Networks that are allowed though they are not public.
    """

    def __init__(self, inner: Any, core: ModuleType, allow: Sequence[Network]) -> None:
        self.inner = inner
        self._core: Any = core
        self._allow = allow

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Any:
        """Connect to the first address of a host that answers."""
        began = _clock.monotonic()
        addresses = await self._addresses(host, port, timeout)
        for number, address in enumerate(addresses, 1):
            try:
                return await self.inner.connect_tcp(
                    str(address),
                    port,
                    timeout=_share(timeout, began, len(addresses) - number + 1),
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (self._core.ConnectError, self._core.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise self._core.ConnectError(f"{host} has no address")

    async def connect_unix_socket(self, path: str, *args: Any, **options: Any) -> Any:  # noqa: ARG002
        """Refuse: a unix socket is as local as can be."""
        raise AddressRefusedError("unix sockets are not public")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self.inner.sleep(seconds)

    async def _addresses(self, host: str, port: int, timeout: float | None) -> list[Address]:
        """Return the addresses of a host, if all of them are allowed."""
        try:
            async with asyncio.timeout(timeout):
                found = await _resolve(host, port)
        except TimeoutError as error:
            raise self._core.ConnectTimeout(f"{host} was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise self._core.ConnectError(f"{host} cannot be resolved: {error}") from error
        for address in found:
            if not (is_public(address) or self._is_allowed(address)):
                raise AddressRefusedError(
                    f"{host} leads to an address that is not public", details={"host": host, "port": port}
                )
        return found

    def _is_allowed(self, address: Address) -> bool:
        return any(_meant(address) in network or address in network for network in self._allow)


async def _resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host in the order in which to try them, each one once."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [*dict.fromkeys(ip_address(sockaddr[0]) for *_, sockaddr in found)]


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _share(timeout: float | None, began: float, addresses: int) -> float | None:
    """Return the time for one address, so that one that never answers leaves some for the others."""
    if timeout is None:
        return None
    return max(timeout - (_clock.monotonic() - began), 0.0) / addresses


def _networks(allow: Any) -> list[Network]:
    each = [allow] if isinstance(allow, str) else allow
    try:
        return [ip_network(network) for network in each]
    except (TypeError, ValueError):
        raise ValueError(f'allow must be networks such as "10.1.0.0/16", got {allow!r}') from None


def _transports(client: Any) -> list[Any]:
    """Return all that makes connections for a client."""
    given: object = client
    if isinstance(given, _CLIENTS):
        mounted = client._mounts.values()  # noqa: SLF001 - as for the pools
        transports = [client._transport, *(each for each in mounted if each is not None)]  # noqa: SLF001
    else:
        transports = [client]
    for transport in transports:
        _check_transport(transport)
    return transports


def _check_transport(transport: Any) -> None:
    given: object = transport
    if not isinstance(given, _TRANSPORTS):
        raise TypeError(
            "client must be a client or an AsyncHTTPTransport of httpx or httpx2, with their own backend, "
            f"got a {type(transport).__name__}"
        )
    pool = transport._pool  # noqa: SLF001
    if type(pool).__name__ != "AsyncConnectionPool" or getattr(pool, "_proxy", None) is not None:
        raise ValueError("client must have no proxies, which connect by themselves; see trust_env=False")
    if pool._uds is not None:  # noqa: SLF001
        raise ValueError("client must not connect to a unix socket")
