"""What Terraform itself does: its output, its plan file, its state."""

from __future__ import annotations

import hashlib
import json
import os

from tests.fakes.terraform.files import publish, read
from tests.fakes.terraform.output import change_summary, event, now, write, write_lines

TYPE_CHECKING = False  # that of `typing` costs an import of its own at each start
if TYPE_CHECKING:
    from typing import Any

    Manners = dict[str, Any]

ADDRESS = "terraform_data.a"
PROVIDER = "terraform.io/builtin/terraform"
RESOURCE = {
    "addr": ADDRESS,
    "module": "",
    "resource": ADDRESS,
    "implied_provider": "terraform",
    "resource_type": "terraform_data",
    "resource_name": "a",
    "resource_key": None,
}


class Terraform:
    """One call, as far as its manners do not say otherwise."""

    def __init__(self, version: str, argv: list[str]) -> None:
        self.version = version
        self.flags = [arg for arg in argv if arg.startswith("-")]
        words = [arg for arg in argv if not arg.startswith("-")]
        self.command, self.operands = (words[0], words[1:]) if words else ("version", [])
        self.manners: Manners = {}
        self.written: str | None = None

    def flag(self, name: str) -> str | None:
        """The value of `-name=value`."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.startswith(f"-{name}=")), None)

    @property
    def exit_code(self) -> int:
        changes = self.command == "plan" and "-detailed-exitcode" in self.flags
        return int(self.manners.get("exit", 2 if changes else 0))

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
                    with open(out, "wb") as file:
                        file.write(b"PK\x03\x04 not really a plan, " + os.urandom(16))
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
            write_lines(1, lines)

    def write_backend(self) -> None:
        config = {"path": self.state_path(), "workspace_dir": None}
        backend = {"type": "local", "config": config, "hash": 1}
        record = {"version": 3, "terraform_version": self.version, "backend": backend}
        os.makedirs(data_dir(), exist_ok=True)
        with open(f"{data_dir()}/terraform.tfstate", "w") as file:
            file.write(json.dumps(record, indent=2))

    def state_path(self) -> str:
        given = (flag.partition("=")[2] for flag in self.flags if flag.startswith("-backend-config=path="))
        recorded = f"{data_dir()}/terraform.tfstate"
        config = json.loads(read(recorded))["backend"]["config"] if os.path.exists(recorded) else {}
        named = self.flag("state-out") or self.flag("state") or next(given, "").removeprefix("path=")
        return named or config.get("path") or self.overridden_path() or "terraform.tfstate"

    def overridden_path(self) -> str | None:
        """The path of a local backend in the last override file, as Terraform takes it."""
        found = None
        for name in sorted(name for name in os.listdir() if name.endswith("_override.tf.json")):
            found = json.loads(read(name)).get("terraform", {}).get("backend", {}).get("local", {}).get("path", found)
        return found

    def old_state(self) -> dict[str, Any]:
        path = self.state_path()
        if not os.path.exists(path):
            return {"serial": 0, "lineage": new_lineage(), "outputs": {}}
        state: dict[str, Any] = json.loads(read(path))
        return state

    def write_state(self, early: Manners | None = None) -> None:
        if early is None and self.manners.get("no_state"):
            return
        path = self.state_path()
        old = self.old_state()
        instance = {"schema_version": 0, "attributes": {"id": "fake"}, "sensitive_attributes": []}
        resource = {"mode": "managed", "type": "terraform_data", "name": "a", "provider": f'provider["{PROVIDER}"]',
                    "instances": [instance]}  # fmt: skip
        state = {"version": 4, "terraform_version": self.version, "serial": old["serial"] + 1,
                 "lineage": old["lineage"], "outputs": self.outputs(), "resources": [resource],
                 "check_results": None}  # fmt: skip
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
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


def data_dir() -> str:
    return os.environ.get("TF_DATA_DIR", ".terraform")


def new_lineage() -> str:
    """As Terraform makes it: a UUID of chance."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
