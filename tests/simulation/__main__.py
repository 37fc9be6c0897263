"""python -m tests.simulation [--stories 10000] [--from 0]: tells how many stories break a promise, and which."""

from __future__ import annotations

import argparse
import os
import sys
import time
from multiprocessing import get_context

from tests.simulation.story import violation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--stories", type=int, default=10_000)
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed; a seed repeats its story")
    chosen = parser.parse_args()
    began = time.monotonic()
    seeds = range(chosen.first, chosen.first + chosen.stories)
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        broken = [found for found in pool.imap_unordered(violation, seeds, chunksize=50) if found is not None]
    sys.stdout.write("".join(f"{each}\n" for each in broken))
    sys.stdout.write(f"{chosen.stories} stories, {len(broken)} broken, {time.monotonic() - began:.0f} s\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
