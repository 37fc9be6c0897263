"""One call of the stand-in: `main([scenario file, Terraform's arguments …])`."""

from __future__ import annotations

import binascii
import json
import os
import signal
import sys
import time
from collections.abc import Mapping

from tests.fakes.terraform.files import entries, publish, read, touch
from tests.fakes.terraform.itself import Terraform
from tests.fakes.terraform.output import chapter, flood, write, write_lines
from tests.fakes.terraform.processes import CHILD_SECONDS, busy, is_told_to_end, kill_agent, start_child, works

TYPE_CHECKING = False  # that of `typing` costs an import of its own at each start
if TYPE_CHECKING:
    from typing import Any

    Manners = dict[str, Any]

PANIC = b"""
!!!!!!!!!!!!!!!!!!!!!!!!!!! TERRAFORM CRASH !!!!!!!!!!!!!!!!!!!!!!!!!!!!
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x0]
"""


class Interrupted(Exception):
    """A SIGTERM that the scenario obeys."""


class Crashed(Exception):
    """A panic that the scenario wants."""


class Fake:
    """One call of terraform."""

    def __init__(self, scenario: Mapping[str, Any], argv: list[str]) -> None:
        self.terraform = Terraform(scenario.get("version", "1.11.4"), argv)
        self.command = self.terraform.command
        self.ledger: str | None = scenario.get("ledger")
        self.manners: Manners = {**scenario.get("every", {}), **scenario.get("commands", {}).get(self.command, {})}
        self.terraform.manners = self.manners
        self.sigterms = 0
        self.argv = argv

    def run(self) -> int:
        """Everything the call does; its exit code."""
        # Blocked and taken from the queue with sigtimedwait: no handler runs in the middle of anything.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self.note_overlap()
        self.note("start", argv=self.argv)
        try:
            self.behave()
            code = self.terraform.exit_code
        except Interrupted:
            code = self.interrupted()
        except Crashed:
            code = int(self.manners["crash"])
        self.note("stop", exit=code, state=self.terraform.written)
        return code

    def behave(self) -> None:
        manners = self.manners
        chdir = self.terraform.flag("chdir")
        if chdir:
            os.chdir(chdir)
        if "dump_env" in manners:
            publish(manners["dump_env"], json.dumps(dict(os.environ)))
        for child in manners.get("children", []):
            start_child(child)
        opening = [os.environ.get(name, "") for name in manners.get("print_env", [])]
        opening += manners.get("lines", self.terraform.opening())
        write_lines(1, opening)
        write_lines(2, manners.get("error_lines", []))
        touch(manners.get("started_file"))
        flood(manners.get("flood_bytes", 0), manners.get("giant_line_bytes", 0))
        for piece in manners.get("pieces", []):
            write(1, binascii.a2b_base64(piece))
            self.work(0.01)
        for each in manners.get("chapters", []):
            self.tell(each)
        if "early_state" in manners:
            self.terraform.write_state(manners["early_state"])
        if manners.get("kill_agent"):
            kill_agent()
        with busy(manners.get("busy", 0)):
            self.toil()

    def toil(self) -> None:
        manners = self.manners
        touch(manners.get("ready_file"))
        self.work(manners.get("sleep", 0))
        while "until" in manners and not os.path.exists(manners["until"]):
            self.work(0.02)
        self.eaten = bytearray(manners.get("eat_bytes", 0))
        for path, text in manners.get("write_files", {}).items():
            publish(path, text)
        if "crash" in manners:
            write(2, PANIC)
            raise Crashed
        self.terraform.finish()

    def tell(self, each: Manners) -> None:
        write(1, chapter(each["seed"], each["bytes"]))
        touch(each["reached"])
        while not os.path.exists(each["go"]):
            self.work(0.02)

    def interrupted(self) -> int:
        write(1, b"\nInterrupt received.\nPlease wait for Terraform to exit or data loss may occur.\n")
        try:
            self.work(self.manners.get("finish_sleep", 0))
        except Interrupted:
            write(1, b"\nTwo interrupts received. Exiting immediately. Note that data loss may have occurred.\n")
        else:
            if self.command == "apply":
                self.terraform.write_state()
        return int(self.manners.get("exit_on_sigterm", 1))

    def work(self, seconds: float | str) -> None:
        """Be busy for so long; raises Interrupted at the first SIGTERM that is not to be ignored."""
        end = time.monotonic() + (CHILD_SECONDS if seconds == "forever" else float(seconds))
        while is_told_to_end(end - time.monotonic()):
            self.sigterms += 1
            self.note("sigterm")
            patience = int(self.manners.get("ignore_sigterm", 0))
            if patience != -1 and self.sigterms > patience:
                raise Interrupted

    def note(self, event: str, **extras: object) -> None:
        if self.ledger:
            entry = {"event": event, "command": self.command, "pid": os.getpid(), "run": run(), "at": time.monotonic()}
            line = json.dumps({**entry, **extras}) + "\n"
            fd = os.open(self.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            write(fd, line.encode())
            os.close(fd)

    def note_overlap(self) -> None:
        """Tells of every process that does the same for the same task at this moment."""
        same = [
            entry
            for entry in (entries(self.ledger) if self.ledger else [])
            if entry["command"] == self.command and entry["run"].partition("-")[0] == run().partition("-")[0]
        ]
        ended = {entry["pid"] for entry in same if entry["event"] == "stop"}
        for entry in same:
            if entry["event"] == "start" and entry["pid"] not in ended and works(entry["pid"]):
                self.note("overlap", other=entry["pid"], with_run=entry["run"])


def run() -> str:
    """The assignment for which this process works: its work directory is around TMPDIR."""
    return os.path.basename(os.path.dirname(os.environ.get("TMPDIR", "")))


def main(argv: list[str]) -> None:
    sys.exit(Fake(json.loads(read(argv[0])), argv[1:]).run())
