"""Which proxy leads to a server: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, the last one with networks. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import SplitResult, unquote, urlsplit

from iac.errors import Invalid

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that is asked to CONNECT. `url` is what httpx wants; `authorization` a header's value."""

    url: str
    host: str
    port: int
    secure: bool
    authorization: str | None


def port_of(url: SplitResult) -> int:
    return url.port or _PORTS[url.scheme]


def proxy_for(endpoint: str, env: Mapping[str, str]) -> Proxy | None:
    """The proxy for this URL, None to go there directly. Raises Invalid if the variable holds something else."""
    target = urlsplit(endpoint)
    name, text = _first(env, f"{target.scheme}_proxy", "all_proxy")
    if not text or not target.hostname or _excepted(target.hostname, port_of(target), _first(env, "no_proxy")[1]):
        return None
    return _proxy(name, text)


def _first(env: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first that is set. Small letters win: a CGI server lets its clients choose HTTP_PROXY."""
    for name in names:
        for spelling in (name, name.upper()):
            if value := env.get(spelling, "").strip():
                return spelling, value
    return "", ""


def _proxy(name: str, text: str) -> Proxy:
    url = urlsplit(text if "://" in text else f"http://{text}")
    try:
        if url.scheme not in _PORTS or not url.hostname:
            raise ValueError
        port = port_of(url)
    except ValueError:
        # Not repeated in the message: a proxy's URL often holds a password.
        raise Invalid(f"{name}: not the URL of an HTTP proxy; give for example http://proxy.example.com:3128") from None
    authorization = None
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
        authorization = "Basic " + base64.b64encode(pair).decode()
    return Proxy(url.geturl(), url.hostname, port, url.scheme == "https", authorization)


def _excepted(host: str, port: int, exceptions: str) -> bool:
    return any(_matches(host, port, entry) for entry in exceptions.replace(",", " ").split())


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of the two is a name
    name, _, wanted_port = entry.rpartition(":") if entry.rpartition(":")[2].isdecimal() else (entry, "", "")
    if wanted_port and int(wanted_port) != port:
        return False
    name = name.strip("[]").lower().removeprefix("*").lstrip(".")
    return bool(name) and (host.lower() == name or host.lower().endswith(f".{name}"))
