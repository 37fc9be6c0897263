"""python -m bench: measures the platform against Terraform alone, prints a table, writes bench/results.json."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from bench import api, phases
from bench.bare import Bare, configuration, find_terraform
from bench.rows import Row, table, write
from bench.server import Server, running_server

RESULTS = Path(__file__).parent / "results.json"
MANY = 1000
PAIRS, QUICK_PAIRS = 10, 3
BUSY = 0.4
"""Load for each core, from which on a run is not worth much."""
Measure = Callable[[Server, Path, tuple[str, ...], bool], list[Row]]


def _phase(
    server: Server,
    directory: Path,
    argv: tuple[str, ...],
    quick: bool,
    *,
    what: str,
    resources: int,
    measure: Callable[[Server, Bare, str], phases.Pair],
) -> list[Row]:
    bare = Bare(directory / "bare", argv, configuration(resources))
    return phases.rows(server, bare, QUICK_PAIRS if quick else PAIRS, what=what, resources=resources, measure=measure)


def _api(server: Server, _directory: Path, _argv: tuple[str, ...], quick: bool) -> list[Row]:
    return api.rows(server, seconds=1.0 if quick else 5.0)


MEASURES: dict[str, Measure] = {
    "plan-1": partial(_phase, what="plan", resources=1, measure=phases.plan_pair),
    "apply-1": partial(_phase, what="apply", resources=1, measure=phases.apply_pair),
    "plan-1000": partial(_phase, what="plan", resources=MANY, measure=phases.plan_pair),
    "apply-1000": partial(_phase, what="apply", resources=MANY, measure=phases.apply_pair),
    "api": _api,
}


def run(chosen: Sequence[str], *, quick: bool) -> list[Row]:
    """The rows of the chosen measurements, on one server that does nothing else."""
    found: list[Row] = []
    terraform = trio.run(find_terraform)
    print(_conditions(terraform.version), flush=True)
    with tempfile.TemporaryDirectory(prefix="iac-bench-") as place:
        directory = Path(place)
        directory.chmod(0o755)  # as root, the embedded PostgreSQL runs as another user
        with running_server(directory) as server:
            for name in chosen:
                print(f"measuring {name} …", file=sys.stderr, flush=True)
                found += MEASURES[name](server, directory, terraform.argv, quick)
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
    parser.add_argument("--quick", action="store_true", help="3 pairs instead of 10")
    parser.add_argument("--only", action="append", choices=list(MEASURES), help="measure this alone; may be repeated")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    chosen = parser.parse_args(arguments)
    rows = run(chosen.only or list(MEASURES), quick=chosen.quick)
    write(chosen.out, rows)
    print(f"\n{table(rows)}\n\n{chosen.out}")


if __name__ == "__main__":
    main()
