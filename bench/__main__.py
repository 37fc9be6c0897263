"""python -m bench: measures the platform against Terraform alone, prints a table, writes bench/results.json."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from bench import api, channel, fleet, pages, phases, reading
from bench.bare import Bare, configuration, find_terraform
from bench.furnishing import furnish
from bench.rows import Row, table, write
from bench.server import Server, running_server
from iac.executor.binaries import Binary

RESULTS = Path(__file__).parent / "results.json"
MANY = 1000
PAIRS, QUICK_PAIRS = 10, 3
BUSY = 0.4
"""Load for each core, from which on a run is not worth much."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One measurement's place, the Terraform that is compared with, and whether it may take its time."""

    directory: Path
    terraform: Binary
    quick: bool

    def often(self, full: int, quick: int) -> int:
        return quick if self.quick else full


Measure = Callable[[Bench, Server], list[Row]]


def _phase(
    bench: Bench, server: Server, *, what: str, resources: int, measure: Callable[[Server, Bare, str], phases.Pair]
) -> list[Row]:
    bare = Bare(bench.directory / "bare", bench.terraform.argv, configuration(resources))
    pairs = bench.often(PAIRS, QUICK_PAIRS)
    return phases.rows(server, bare, pairs, what=what, resources=resources, measure=measure)


def _api(bench: Bench, server: Server) -> list[Row]:
    return api.rows(server, seconds=bench.often(5, 1))


def _dispatch(bench: Bench, server: Server) -> list[Row]:
    return fleet.dispatch(server, bench.directory, agents=100, tasks=bench.often(300, 50))


def _all_at_once(bench: Bench, server: Server) -> list[Row]:
    return fleet.all_at_once(server, bench.directory, agents=120)


def _connected(bench: Bench, server: Server, *, agents: int) -> list[Row]:
    return fleet.connected(server, bench.directory, agents=agents, seconds=bench.often(30, 10))


def _pipeline(bench: Bench, server: Server) -> list[Row]:
    tasks, megabytes = (1, 200) if bench.quick else (4, 250)  # a log is kept up to 256 MiB
    return channel.pipeline(server, bench.directory, bench.terraform, tasks=tasks, megabytes=megabytes)


def _live(bench: Bench, server: Server) -> list[Row]:
    return channel.live(server, bench.directory, bench.terraform)


def _cancel(bench: Bench, server: Server) -> list[Row]:
    return channel.cancel(server, bench.directory, bench.terraform, times=bench.often(100, 20))


def _pages(bench: Bench, server: Server) -> list[Row]:
    return pages.rows(server, furnish(server), times=bench.often(60, 10))


def _reading(bench: Bench, server: Server) -> list[Row]:
    return reading.rows(server, visits=bench.often(5, 2), times=bench.often(5, 2))


MEASURES: dict[str, Measure] = {
    "plan-1": partial(_phase, what="plan", resources=1, measure=phases.plan_pair),
    "apply-1": partial(_phase, what="apply", resources=1, measure=phases.apply_pair),
    "plan-1000": partial(_phase, what="plan", resources=MANY, measure=phases.plan_pair),
    "apply-1000": partial(_phase, what="apply", resources=MANY, measure=phases.apply_pair),
    "api": _api,
    "dispatch": _dispatch,
    "120x120": _all_at_once,
    "fleet-1000": partial(_connected, agents=1000),
    "fleet-3000": partial(_connected, agents=3000),
    "log-pipeline": _pipeline,
    "live": _live,
    "cancel": _cancel,
    "pages": _pages,
    "reading": _reading,
}


def run(chosen: Sequence[str], *, quick: bool) -> list[Row]:
    """The rows of the chosen measurements, each on a server of its own that does nothing else."""
    found: list[Row] = []
    terraform = trio.run(find_terraform)
    print(_conditions(terraform.version), flush=True)
    with tempfile.TemporaryDirectory(prefix="iac-bench-") as place:
        Path(place).chmod(0o755)  # as root, the embedded PostgreSQL runs as another user
        for name in chosen:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            bench = Bench(Path(place, name), terraform, quick)
            bench.directory.mkdir()
            with running_server(bench.directory) as server:
                found += MEASURES[name](bench, server)
    return found


def _conditions(terraform: str) -> str:
    """What the numbers depend on."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    busy = "; others use this machine now, so all of this is slower than it could be" if load > BUSY * cores else ""
    return (
        f"Terraform {terraform}, Python {platform.python_version()}, {platform.machine()}, {cores} cores, "
        f"load {load:.1f}{busy}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, less data")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"measure these alone: {', '.join(MEASURES)}")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="the same; may be repeated")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    chosen = parser.parse_args(arguments)
    names = [*chosen.names, *chosen.only]
    if unknown := sorted({*names} - {*MEASURES}):
        parser.error(f"nothing is called {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    rows = run(names or list(MEASURES), quick=chosen.quick)
    write(chosen.out, rows)
    print(f"\n{table(rows)}\n\n{chosen.out}")


if __name__ == "__main__":
    main()
