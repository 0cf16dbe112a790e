"""Access: what the flags say about who may reach the app and by which way, and what would leave it open."""

from __future__ import annotations

import argparse
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from lpd.errors import LpdError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
#: Headers that browsers set, or that mean something else here.
_RESERVED = frozenset({"host", "origin", "cookie", "authorization", "user-agent", "accept", "referer", "connection"})
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True)
class Access:
    """How people reach the app; the default is one person on this machine.

    ``users`` is the users file; ``proxy_header`` (lower case) names the header in which a proxy says who asks;
    ``proxies`` are the addresses that are believed; ``root_path`` is the prefix under which a proxy shows the app;
    ``public_hosts`` are the names it has there; ``admins`` may cancel everybody's jobs.
    """

    users: Path | None = None
    proxy_header: str = ""
    proxies: tuple[Network, ...] = ()
    root_path: str = ""
    public_hosts: frozenset[str] = frozenset()
    admins: frozenset[str] = frozenset()

    @property
    def guarded(self) -> bool:
        """Whether people have names here."""
        return self.users is not None or bool(self.proxy_header)

    def believes(self, address: str) -> bool:
        """Whether ``address`` is one of the proxies."""
        try:
            asking = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = getattr(asking, "ipv4_mapped", None)
        return any((mapped or asking) in network for network in self.proxies)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about several users and proxies."""
    group = parser.add_argument_group("several users")
    group.add_argument("--auth", metavar="FILE", type=Path, help="let in only the users in this file, see --add-user")
    group.add_argument("--add-user", metavar="NAME", help="ask for a password, put the user into the --auth file, end")
    group.add_argument(
        "--auth-proxy-header",
        metavar="NAME",
        help="header in which a proxy names the user it has let in (single sign-on)",
    )
    group.add_argument("--admin", metavar="NAME", nargs="+", default=[], help="users who may cancel everybody's jobs")
    group.add_argument(
        "--trusted-proxy",
        metavar="ADDRESS",
        nargs="+",
        default=[],
        help="addresses or networks whose word about user, address and host counts (default: this machine)",
    )
    group.add_argument(
        "--public-host", metavar="NAME", nargs="+", default=[], help="host names of the app at the proxy"
    )
    group.add_argument("--root-path", metavar="/PREFIX", default="", help="prefix of the app's addresses at the proxy")


def read_access(args: argparse.Namespace) -> Access:
    """What the flags of :func:`add_flags` and ``--host`` come to.

    Raises:
        LpdError: a value cannot be used, or together they would let in whoever claims to be somebody.
    """
    if args.auth and args.auth_proxy_header:
        raise LpdError("--auth and --auth-proxy-header exclude each other: choose who checks the users, app or proxy")
    header = _header(args.auth_proxy_header or "")
    if header and args.host not in _LOOPBACK_NAMES and not args.trusted_proxy:
        raise LpdError(
            f"--auth-proxy-header with --host {args.host} would believe anyone on the network: "
            "name the proxy's address with --trusted-proxy, or listen on 127.0.0.1"
        )
    if args.admin and not (args.auth or header):
        raise LpdError("--admin means nothing without users: add --auth or --auth-proxy-header")
    root_path = args.root_path.rstrip("/")
    if root_path and not (_ROOT_PATH.fullmatch(root_path) and not {".", ".."} & set(root_path.split("/"))):
        raise LpdError(f"--root-path {args.root_path} is not a path like /lpd: begin with / and leave out the host")
    behind_proxy = header or root_path or args.public_host
    default = _LOOPBACK if behind_proxy else ()
    return Access(
        users=args.auth,
        proxy_header=header,
        proxies=tuple(_network(text) for text in args.trusted_proxy) or default,
        root_path=root_path,
        public_hosts=frozenset(_host(text) for text in args.public_host),
        admins=frozenset(args.admin),
    )


def _header(name: str) -> str:
    if name and (not _HEADER.fullmatch(name) or name.lower() in _RESERVED):
        raise LpdError(f"--auth-proxy-header {name} cannot carry a user: use a header of its own, like X-Remote-User")
    return name.lower()


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise LpdError(
            f"--trusted-proxy {text} is no address or network: write it like 10.0.0.7 or 10.0.0.0/28"
        ) from None
    if network.prefixlen == 0:
        raise LpdError(f"--trusted-proxy {text} would believe everybody: name the proxy's own address")
    return network


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise LpdError(f"--public-host {text} is no host name: leave out https://, port and path")
    return text.lower()
