"""Stands in for the terraform binary: tests.fakes.terraform is what runs then.

`install(directory, scenario)` makes an executable `terraform`. Without a scenario it behaves like Terraform 1.11.4
with one `terraform_data.a` and the local backend. A scenario is a JSON object:

    version      what `version` reports
    ledger       file that gets one JSON line per event: start (argv), sigterm, stop (exit, the sha256 of the state that
                 was written), and overlap, when another process of the same command and task still runs; each with pid,
                 the monotonic time `at`, and `run`, the assignment as its work directory is named: <task>-<fence>
    every        manners for all subcommands
    commands     {"plan": {...}, "apply": {...}, …}: manners for one, over `every`

Manners, all optional, in the order in which they are performed:

    dump_env         file that gets the environment as JSON
    children         [{"kind": "background"|"setsid"|"double_fork", "pid_file": …, "sigterm_file"?: …, "env"?: {…}}]: each
                     stays for two minutes; a SIGTERM is noted in sigterm_file and otherwise ignored
    print_env        names of environment variables, whose values are printed
    lines, error_lines   replace the subcommand's own stdout; go to stderr
    started_file     file touched before the flood
    flood_bytes      so much output in lines of 80 bytes
    giant_line_bytes one line of this size
    pieces           [base64, …]: these bytes, each in a write of its own, a moment apart
    chapters         [{"seed": n, "bytes": n, "reached": file, "go": file}]: prints so much of `chapter`, touches the one
                     file and waits for the other, then goes on with the next
    kill_agent       whoever runs this task is killed: the process above the shim, if it is an agent of the tests
    busy             so many children that do nothing but use the processor, until this process ends
    early_state      fields over a state that is written now, as after the first of several resources
    ready_file       file touched when all of the above is done and a SIGTERM would be heard
    sleep            seconds of work, or "forever"
    until            path; works on until there is such a file
    ignore_sigterm   so many SIGTERMs are noted and ignored, -1: all of them
    finish_sleep     seconds between the SIGTERM that is obeyed and the end
    eat_bytes        so much memory is taken, and kept
    write_files      {path: text}
    crash            exit code of a panic: its text goes to stderr, and nothing is finished
    plan_json        what `show -json` prints
    state, no_state  fields over the written state (apply); write none
    dump_state       text of a state that is printed, as where it could be written nowhere (apply -json, with an exit of 1)
    outputs          {"name": value}: for apply, show and output
    exit, exit_on_sigterm    0 and 1 (plan with -detailed-exitcode: 2); an exit of 1 comes with an error message
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes.terraform.files import entries

ROOT = Path(__file__).resolve().parents[2]
CALL = f"import sys; sys.path.append({str(ROOT)!r}); from tests.fakes.terraform.call import main; main(sys.argv[1:])"
"""Imported, and not run as a file: so it is compiled once, and not at each of the thousands of starts of a test run."""


def install(directory: Path, scenario: Mapping[str, object] | None = None) -> Path:
    """Put an executable `terraform` into the directory; its scenario is `fake_scenario.json` beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    described = directory / "fake_scenario.json"
    described.write_text(json.dumps(scenario or {}))
    binary = directory / "terraform"
    command = shlex.join([sys.executable, "-I", "-S", "-c", CALL, str(described)])
    binary.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    binary.chmod(0o755)
    return binary


def ledger_of(path: Path) -> list[dict[str, Any]]:
    """The events of a ledger so far; none if it does not exist yet. A line that is just being written is not one yet."""
    return entries(str(path))
