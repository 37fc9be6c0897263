"""Stands in for the terraform binary: `fake_terraform.py --scenario FILE [terraform's arguments]`.

`install(directory, scenario)` makes an executable `terraform` that runs this file; standard library only, because the
product starts it with an environment that knows nothing of ours. Without a scenario it behaves like Terraform 1.11.4
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

import base64
import errno
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Manners = dict[str, Any]

PANIC = b"""
!!!!!!!!!!!!!!!!!!!!!!!!!!! TERRAFORM CRASH !!!!!!!!!!!!!!!!!!!!!!!!!!!!
panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x0]
"""
ADDRESS = "terraform_data.a"
PROVIDER = "terraform.io/builtin/terraform"
CHILD_SECONDS = 120


def install(directory: Path, scenario: Mapping[str, object] | None = None) -> Path:
    """Put an executable `terraform` into the directory; its scenario is `fake_scenario.json` beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    described = directory / "fake_scenario.json"
    described.write_text(json.dumps(scenario or {}))
    binary = directory / "terraform"
    command = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).resolve()), "--scenario", str(described)])
    binary.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    binary.chmod(0o755)
    return binary


def ledger_of(path: Path) -> list[dict[str, Any]]:
    """The events of a ledger so far; none if it does not exist yet. A line that is just being written is not one yet."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class Interrupted(Exception):
    """A SIGTERM that the scenario obeys."""


class Crashed(Exception):
    """A panic that the scenario wants."""


class Fake:
    """One call of terraform."""

    def __init__(self, scenario: Mapping[str, Any], argv: list[str]) -> None:
        self.flags = [arg for arg in argv if arg.startswith("-")]
        words = [arg for arg in argv if not arg.startswith("-")]
        self.command, self.operands = (words[0], words[1:]) if words else ("version", [])
        self.version: str = scenario.get("version", "1.11.4")
        self.ledger: str | None = scenario.get("ledger")
        self.manners: Manners = {**scenario.get("every", {}), **scenario.get("commands", {}).get(self.command, {})}
        self.sigterms = 0
        self.written: str | None = None
        self.argv = argv

    def run(self) -> int:
        """Everything the call does; its exit code."""
        # Blocked and taken from the queue with sigtimedwait: no handler runs in the middle of anything.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self.note_overlap()
        self.note("start", argv=self.argv)
        try:
            self.behave()
            code = self.exit_code
        except Interrupted:
            code = self.interrupted()
        except Crashed:
            code = int(self.manners["crash"])
        self.note("stop", exit=code, state=self.written)
        return code

    def behave(self) -> None:
        manners = self.manners
        chdir = self.flag("chdir")
        if chdir:
            os.chdir(chdir)
        if "dump_env" in manners:
            publish(Path(manners["dump_env"]), json.dumps(dict(os.environ)))
        for child in manners.get("children", []):
            start_child(child)
        opening = [os.environ.get(name, "") for name in manners.get("print_env", [])]
        opening += manners.get("lines", self.opening())
        write(1, "".join(f"{line}\n" for line in opening).encode())
        write(2, "".join(f"{line}\n" for line in manners.get("error_lines", [])).encode())
        touch(manners.get("started_file"))
        flood(manners.get("flood_bytes", 0), manners.get("giant_line_bytes", 0))
        for piece in manners.get("pieces", []):
            write(1, base64.b64decode(piece))
            self.work(0.01)
        for each in manners.get("chapters", []):
            self.tell(each)
        if "early_state" in manners:
            self.write_state(manners["early_state"])
        if manners.get("kill_agent"):
            kill_agent()
        with busy(manners.get("busy", 0)):
            self.toil()

    def toil(self) -> None:
        manners = self.manners
        touch(manners.get("ready_file"))
        self.work(manners.get("sleep", 0))
        while "until" in manners and not Path(manners["until"]).exists():
            self.work(0.02)
        self.eaten = bytearray(manners.get("eat_bytes", 0))
        for path, text in manners.get("write_files", {}).items():
            publish(Path(path), text)
        if "crash" in manners:
            write(2, PANIC)
            raise Crashed
        self.finish()

    def tell(self, each: Manners) -> None:
        write(1, chapter(each["seed"], each["bytes"]))
        touch(each["reached"])
        while not Path(each["go"]).exists():
            self.work(0.02)

    def interrupted(self) -> int:
        write(1, b"\nInterrupt received.\nPlease wait for Terraform to exit or data loss may occur.\n")
        try:
            self.work(self.manners.get("finish_sleep", 0))
        except Interrupted:
            write(1, b"\nTwo interrupts received. Exiting immediately. Note that data loss may have occurred.\n")
        else:
            if self.command == "apply":
                self.write_state()
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

    @property
    def exit_code(self) -> int:
        changes = self.command == "plan" and "-detailed-exitcode" in self.flags
        return int(self.manners.get("exit", 2 if changes else 0))

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
            for entry in (ledger_of(Path(self.ledger)) if self.ledger else [])
            if entry["command"] == self.command and entry["run"].partition("-")[0] == run().partition("-")[0]
        ]
        ended = {entry["pid"] for entry in same if entry["event"] == "stop"}
        for entry in same:
            if entry["event"] == "start" and entry["pid"] not in ended and works(entry["pid"]):
                self.note("overlap", other=entry["pid"], with_run=entry["run"])

    def flag(self, name: str) -> str | None:
        """The value of `-name=value`."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.startswith(f"-{name}=")), None)

    # What Terraform itself does.

    def opening(self) -> list[str]:
        """What the subcommand prints when it begins (for the quick ones: all it prints)."""
        as_json = "-json" in self.flags
        match self.command:
            case "version" if as_json:
                return [json.dumps({"terraform_version": self.version, "platform": "linux_amd64",
                                    "provider_selections": {}, "terraform_outdated": False}, indent=2)]  # fmt: skip
            case "version":
                return [f"Terraform v{self.version}", "on linux_amd64"]
            case "validate" if as_json:
                return [json.dumps({"format_version": "1.0", "valid": True, "error_count": 0, "warning_count": 0,
                                    "diagnostics": []}, indent=2)]  # fmt: skip
            case "show" if as_json:
                if not self.operands:
                    return [json.dumps({"format_version": "1.0", "terraform_version": self.version})]
                return [json.dumps(self.manners.get("plan_json") or self.plan_json())]
            case "output" if as_json:
                return [json.dumps(self.outputs() or self.old_state()["outputs"], indent=2)]
            case "init" | "plan" | "apply" | "refresh" | "destroy" if as_json:
                return [event("version", f"Terraform {self.version}", terraform=self.version, ui="1.2")]
            case "apply" | "destroy":
                return [f"{ADDRESS}: Creating..."]
        return []

    def finish(self) -> None:
        """What the subcommand does and prints at its end."""
        as_json = "-json" in self.flags
        if self.exit_code == 1:
            if "dump_state" in self.manners:
                head = '{"@level":"info","@message":"Emergency state dump","@module":"terraform.ui","state":'
                write(1, f'{head}{self.manners["dump_state"]},"type":"log"}}\n'.encode())
            elif self.command == "apply":
                self.write_state()
            problem = {"severity": "error", "summary": "The scenario says so", "detail": ""}
            line = event("diagnostic", "Error: The scenario says so", level="error", diagnostic=problem)
            self.say([line if as_json else "Error: The scenario says so"])
            return
        match self.command:
            case "init":
                self.write_backend()
                done = "Terraform has been successfully initialized!"
                code = "output_init_success_message"
                self.say([event("init_output", done, message_code=code)] if as_json else [done])
            case "plan":
                if out := self.flag("out"):
                    Path(out).write_bytes(b"PK\x03\x04 not really a plan, " + uuid.uuid4().bytes)
                summary = "Plan: 1 to add, 0 to change, 0 to destroy."
                change = {"resource": RESOURCE, "action": "create"}
                planned = event("planned_change", f"{ADDRESS}: Plan to create", change=change)
                self.say([planned, change_summary(summary, "plan")] if as_json else [summary])
            case "apply" | "destroy":
                self.write_state()
                summary = "Apply complete! Resources: 1 added, 0 changed, 0 destroyed."
                self.say([*self.applied(), change_summary(summary, "apply")] if as_json else [summary])

    def applied(self) -> list[str]:
        hook = {"resource": RESOURCE, "action": "create"}
        ended = {**hook, "id_key": "id", "id_value": "fake", "elapsed_seconds": 0}
        return [
            event("apply_start", f"{ADDRESS}: Creating...", hook=hook),
            event("apply_complete", f"{ADDRESS}: Creation complete after 0s [id=fake]", hook=ended),
        ]

    def say(self, lines: list[str]) -> None:
        if "lines" not in self.manners:
            write(1, "".join(f"{line}\n" for line in lines).encode())

    def write_backend(self) -> None:
        config = {"path": self.state_path(), "workspace_dir": None}
        backend = {"type": "local", "config": config, "hash": 1}
        data = Path(os.environ.get("TF_DATA_DIR", ".terraform"))
        data.mkdir(parents=True, exist_ok=True)
        record = {"version": 3, "terraform_version": self.version, "backend": backend}
        (data / "terraform.tfstate").write_text(json.dumps(record, indent=2))

    def state_path(self) -> str:
        given = (flag.partition("=")[2] for flag in self.flags if flag.startswith("-backend-config=path="))
        recorded = Path(os.environ.get("TF_DATA_DIR", ".terraform")) / "terraform.tfstate"
        config = json.loads(recorded.read_text())["backend"]["config"] if recorded.exists() else {}
        named = self.flag("state-out") or self.flag("state") or next(given, "").removeprefix("path=")
        return named or config.get("path") or self.overridden_path() or "terraform.tfstate"

    def overridden_path(self) -> str | None:
        """The path of a local backend in the last override file, as Terraform takes it."""
        found = None
        for file in sorted(Path().glob("*_override.tf.json")):
            found = (
                json.loads(file.read_text()).get("terraform", {}).get("backend", {}).get("local", {}).get("path", found)
            )
        return found

    def old_state(self) -> dict[str, Any]:
        path = Path(self.state_path())
        if not path.exists():
            return {"serial": 0, "lineage": str(uuid.uuid4()), "outputs": {}}
        state: dict[str, Any] = json.loads(path.read_text())
        return state

    def write_state(self, early: Manners | None = None) -> None:
        if early is None and self.manners.get("no_state"):
            return
        path = Path(self.state_path())
        old = self.old_state()
        instance = {"schema_version": 0, "attributes": {"id": "fake"}, "sensitive_attributes": []}
        resource = {"mode": "managed", "type": "terraform_data", "name": "a", "provider": f'provider["{PROVIDER}"]',
                    "instances": [instance]}  # fmt: skip
        state = {"version": 4, "terraform_version": self.version, "serial": old["serial"] + 1,
                 "lineage": old["lineage"], "outputs": self.outputs(), "resources": [resource],
                 "check_results": None}  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**state, **(self.manners.get("state", {}) if early is None else early)}, indent=2) + "\n"
        publish(path, text)
        if early is None:
            self.written = hashlib.sha256(text.encode()).hexdigest()

    def outputs(self) -> dict[str, Any]:
        given = self.manners.get("outputs", {})
        return {name: {"sensitive": False, "type": "string", "value": value} for name, value in given.items()}

    def plan_json(self) -> dict[str, Any]:
        change = {"actions": ["create"], "before": None, "after": {"input": None}, "after_unknown": {"id": True},
                  "before_sensitive": False, "after_sensitive": {}}  # fmt: skip
        resource = {"address": ADDRESS, "mode": "managed", "type": "terraform_data", "name": "a",
                    "provider_name": PROVIDER, "change": change}  # fmt: skip
        return {"format_version": "1.2", "terraform_version": self.version, "planned_values": {"root_module": {}},
                "resource_changes": [resource], "output_changes": {}, "configuration": {"root_module": {}},
                "timestamp": now(), "applyable": True, "complete": True, "errored": False}  # fmt: skip


RESOURCE = {
    "addr": ADDRESS,
    "module": "",
    "resource": ADDRESS,
    "implied_provider": "terraform",
    "resource_type": "terraform_data",
    "resource_name": "a",
    "resource_key": None,
}


def run() -> str:
    """The assignment for which this process works: its work directory is around TMPDIR."""
    return Path(os.environ.get("TMPDIR", "")).parent.name


def works(pid: int) -> bool:
    """Whether there is such a process, more than the record of its end, and not as stopped as its suspended machine."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZT"
    except OSError:
        return False


def event(kind: str, message: str, *, level: str = "info", **fields: object) -> str:
    """One line of the JSON output."""
    head = {"@level": level, "@message": message, "@module": "terraform.ui", "@timestamp": now()}
    return json.dumps({**head, **fields, "type": kind})


def change_summary(message: str, operation: str) -> str:
    """The line that counts what was planned or done."""
    changes = {"add": 1, "change": 0, "import": 0, "remove": 0, "operation": operation}
    return event("change_summary", message, changes=changes)


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def write(fd: int, content: bytes) -> None:
    """All of it, however little the kernel takes at once."""
    view = memoryview(content)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as error:  # Terraform does not mind that nobody takes its output
            if error.errno != errno.ENOSPC:
                raise
            return


def flood(in_lines: int, in_one_line: int) -> None:
    line = b"x" * 79 + b"\n"
    for size, block in ((in_lines, line * 8192), (in_one_line, b"y" * 655_360)):
        left = size
        while left > 0:
            write(1, block[:left])
            left -= len(block)
    if in_one_line:
        write(1, b"\n")


def chapter(seed: int, size: int) -> bytes:
    """At least `size` bytes of numbered lines; the same for the same seed."""
    lines: list[bytes] = []
    length = 0
    while length < size:
        number = len(lines)
        lines.append(b"ch%d %d %s\n" % (seed, number, hashlib.sha256(b"%d/%d" % (seed, number)).hexdigest().encode()))
        length += len(lines[-1])
    return b"".join(lines)


def touch(path: str | None) -> None:
    if path:
        publish(Path(path), "")


def publish(path: Path, text: str) -> None:
    """Write so that whoever sees the file sees all of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def is_told_to_end(within: float) -> bool:
    """Whether a SIGTERM came."""
    told = signal.sigtimedwait({signal.SIGTERM}, max(0.0, within))
    # One that was stopped and goes on when its time is over gets whatever was on the stack (a fault of CPython 3.11).
    return told is not None and told.si_signo == signal.SIGTERM


def kill_agent() -> None:
    agent = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[1])
    if b"tests.harness.scaled_agent" in Path(f"/proc/{agent}/cmdline").read_bytes():
        os.kill(agent, signal.SIGKILL)


@contextmanager
def busy(count: int) -> Iterator[None]:
    program = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    children = [subprocess.Popen(program) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def start_child(child: Manners) -> None:
    """Start a child that stays, and wait until it says so."""
    argv = [sys.executable, "-I", "-S", __file__, "--child", json.dumps(child)]
    env = {**os.environ, **child.get("env", {})}
    quiet = subprocess.DEVNULL
    if child["kind"] == "double_fork" and not child.get("forked"):
        argv[-1] = json.dumps({**child, "forked": True})
        subprocess.run(argv, env=env, check=True)
        return
    own_session = child["kind"] != "background"
    subprocess.Popen(argv, env=env, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=own_session)
    while not Path(child["pid_file"]).exists():
        signal.sigtimedwait([], 0.005)


def stay(child: Manners) -> int:
    """Be a child: publish the pid, note SIGTERMs, live on."""
    if child.pop("forked", False):
        # The middle one of a double fork: its child outlives it and becomes an orphan in a session of its own.
        start_child({**child, "kind": "setsid"})
        return 0
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    publish(Path(child["pid_file"]), str(os.getpid()))
    end = time.monotonic() + CHILD_SECONDS
    while is_told_to_end(end - time.monotonic()):
        touch(child.get("sigterm_file"))
    return 0


def main(argv: list[str]) -> int:
    if argv[0] == "--child":
        return stay(json.loads(argv[1]))
    return Fake(json.loads(Path(argv[1]).read_text()), argv[2:]).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
