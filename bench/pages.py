"""How long the server takes for each page of the UI, and how many bytes a first visit to it moves."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import closing
from urllib.parse import urljoin

import httpx

from bench import usage
from bench.furnishing import SHOWN, Furnished
from bench.rows import Row, at_most, noted, percentile
from bench.server import Server

SLOWEST, HEAVIEST = 100.0, 250.0
"""Milliseconds of the 95th percentile, and KB of a page with everything that it loads."""
WARM_UP = 2
_ASSET = re.compile(r'(?:src|href)="(/ui/static/[^"]+)"')
_MODULE = re.compile(r'(?:from|import) "(\./[^"]+)"')


def paths(there: Furnished) -> Mapping[str, str]:
    """Every page that one can stay on, by its name."""
    ws, task = f"/workspaces/{SHOWN}", f"/tasks/{there.planned.id}"
    return {
        "overview": "/",
        "workspaces": "/workspaces",
        "workspaces, filtered": "/workspaces?q=number&state=idle&mode=agent&sort=-changed&page=3",
        "workspace": ws,
        "workspace, tasks": f"{ws}/tasks",
        "workspace, variables": f"{ws}/variables",
        "workspace, resources": f"{ws}/resources",
        "workspace, configuration": f"{ws}/configuration",
        "workspace, state": f"{ws}/state",
        "workspace, a state": f"{ws}/state/current",
        "workspace, settings": f"{ws}/settings",
        "tasks": "/tasks",
        "tasks, searched": "/tasks?q=winter&state=failed&page=2",
        "task that is over": f"/tasks/{there.done.id}",
        "task with a plan": task,
        "plan": f"{task}/plan",
        "agents": "/agents",
        "pool": f"/agents/pools/{there.pool}",
        "agent": f"/agents/{there.agent}",
        "tokens": "/tokens",
        "audit": "/audit",
    }


def rows(server: Server, there: Furnished, *, times: int) -> list[Row]:
    """Each page so many times, in turns, so that none of them has the caches for itself."""
    pages, found = paths(there), list[Row]()
    with closing(signed_in(server)) as user:
        took: dict[str, list[float]] = {name: [] for name in pages}
        for _ in range(WARM_UP + times):
            for name, path in pages.items():
                took[name].append(_milliseconds(user, path))
        worked = {name: _worked(server, user, path, times) for name, path in pages.items()}
        weights = {name: _weight(user, path) for name, path in pages.items()}
    for name in pages:
        each, what = took[name][WARM_UP:], f"page, {name}: server time"
        found += [
            noted(f"{what}, median", percentile(each, 50), "ms"),
            at_most(SLOWEST, f"{what}, 95th percentile of {times}", percentile(each, 95), "ms"),
            noted(f"page, {name}: CPU of the server and its database", worked[name], "ms"),
        ]
    weighed = [
        at_most(HEAVIEST, f"page, {name}: bytes of a first visit", bytes_ / 1000, "KB")
        for name, bytes_ in weights.items()
    ]
    return [*found, *weighed]


def signed_in(server: Server) -> httpx.Client:
    """A browser's headers, one connection, and the session's cookie."""
    headers = {"Accept": "text/html", "Accept-Encoding": "gzip, br, zstd", "Sec-Fetch-Site": "same-origin"}
    user = httpx.Client(base_url=server.url, headers=headers, timeout=30.0)
    answer = user.post("/login", data={"token": server.token}, headers={"Origin": server.url})
    if answer.status_code != 303:
        raise RuntimeError(f"Signing in was answered with {answer.status_code}: {answer.text[:500]}")
    return user


def _milliseconds(user: httpx.Client, path: str) -> float:
    """From the request until the whole page is there."""
    began = time.perf_counter()
    answer = user.get(path)
    took = time.perf_counter() - began
    if answer.status_code != 200:
        raise RuntimeError(f"{path} was answered with {answer.status_code}: {answer.text[:500]}")
    return took * 1000


def _worked(server: Server, user: httpx.Client, path: str, times: int) -> float:
    """Milliseconds of work for one page, whatever else the machine does."""
    before = _cpu(server)
    for _ in range(times):
        _milliseconds(user, path)
    return (_cpu(server) - before) / times * 1000


def _cpu(server: Server) -> float:
    return usage.cpu_seconds(server.pid) + sum(map(usage.cpu_seconds, usage.postgres_of(server.data_dir)))


def _weight(user: httpx.Client, path: str) -> int:
    """Bytes of the answers, as they are on the wire: the page, what it names, and what its modules import."""
    answer = user.get(path)
    total, wanted = _size(answer), set(_ASSET.findall(answer.text))
    waiting = sorted(wanted)
    while waiting:
        asset = user.get(address := waiting.pop())
        total += _size(asset)
        if address.endswith(".js"):
            more = {urljoin(address, name) for name in _MODULE.findall(asset.text)} - wanted
            wanted |= more
            waiting += sorted(more)
    return total


def _size(answer: httpx.Response) -> int:
    answer.raise_for_status()
    return answer.num_bytes_downloaded + sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
