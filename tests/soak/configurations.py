"""What the workspaces of a soak are made of: resources that are something outside of Terraform, namely a file each.

So what a state says can be compared with what there is: a resource that exists and is in no state was lost.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import msgspec

CANARY = "soak-canary-7f3b91c2e5"
"""A sensitive variable's value; every apply prints it."""
SECRET_INPUT = "soak-secret-input-d41d8c"
"""Is in the plan and the state of every workspace, marked as sensitive there."""
_MAIN = """
variable "secret" {{
  type      = string
  sensitive = true
}}

resource "terraform_data" "thing" {{
  count            = {count}
  input            = var.secret
  triggers_replace = [{generation}]

  provisioner "local-exec" {{
    command = "echo the canary is $CANARY; sleep {seconds}; basename $(dirname $TMPDIR) > {things}/${{self.id}}"
  }}

  provisioner "local-exec" {{
    when    = destroy
    command = "rm -f {things}/${{self.id}}"
  }}
}}

resource "terraform_data" "quick" {{
  count = {count}
  input = {generation} * 100 + count.index
}}
{more}
output "secret" {{
  value     = var.secret
  sensitive = true
}}
"""
_FAILS = """
resource "terraform_data" "fails" {
  triggers_replace = [timestamp()]

  provisioner "local-exec" {
    command = "echo it fails with $CANARY >&2; exit 3"
  }
}
"""
_IS_DEAF = """
resource "terraform_data" "deaf" {
  triggers_replace = [timestamp()]

  provisioner "local-exec" {
    command = "trap '' TERM INT; sleep 12 & wait; wait"
  }
}
"""


class Wish(msgspec.Struct, frozen=True):
    """A workspace's next configuration. `seconds` is how long each thing takes to be made."""

    count: int
    generation: int
    seconds: float
    more: str = ""


def drawn(chance: Random, generation: int) -> Wish:
    """Mostly quick ones; some fail, some take longer than leases last, some do not listen to SIGTERM."""
    more = chance.choices(("", _FAILS, _IS_DEAF), (0.8, 0.14, 0.06))[0]
    seconds = round(chance.choices((chance.uniform(0, 1), chance.uniform(2, 9), 25.0), (0.4, 0.5, 0.1))[0], 2)
    return Wish(count=chance.randint(0, 4), generation=generation, seconds=seconds, more=more)


def files(wish: Wish, things: Path) -> Mapping[str, str]:
    """The files of the configuration; things are made in `things`."""
    return {
        "main.tf": _MAIN.format(
            count=wish.count,
            generation=wish.generation // 3,
            seconds=wish.seconds,
            things=shlex.quote(str(things)),
            more=wish.more,
        )
    }


class Differences(msgspec.Struct, frozen=True):
    """`lost`: things that no state knows, and the task that made each; `phantoms`: things of the state that are not."""

    lost: Mapping[str, int]
    phantoms: frozenset[str]


def compared(state: Mapping[str, Any] | None, things: Path) -> Differences:
    """A workspace's state with what there is. What is tainted may be there or not."""
    sound, tainted = set[str](), set[str]()
    for name, status in _things_of(state or {}):
        (sound if status is None else tainted).add(name)
    there = {each.name: int(each.read_text().partition("-")[0] or 0) for each in things.iterdir()}
    lost = {name: task for name, task in there.items() if name not in sound | tainted}
    return Differences(lost=lost, phantoms=frozenset(sound - there.keys()))


def _things_of(state: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for resource in state.get("resources", ()):
        if resource["name"] == "thing":
            for instance in resource["instances"]:
                yield instance["attributes"]["id"], instance.get("status")
