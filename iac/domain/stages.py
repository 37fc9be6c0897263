"""What an executor is at, in words; and which stages a phase goes through."""

from __future__ import annotations

from collections.abc import Mapping

from iac.domain.records import Phase

WORDS: Mapping[str, str] = {
    "fetching": "fetching the inputs",
    "preparing": "preparing the work directory",
    "init": "terraform init",
    "planning": "terraform plan",
    "saving_plan": "storing the plan",
    "restoring_plan": "fetching the plan",
    "applying": "terraform apply",
    "saving_state": "storing the state",
}
ORDER: Mapping[Phase, tuple[str, ...]] = {
    "plan": ("fetching", "preparing", "init", "planning", "saving_plan"),
    "apply": ("fetching", "preparing", "init", "restoring_plan", "applying", "saving_state"),
}


def words(stage: str | None) -> str | None:
    """The stage as people call it; one that this program does not know is called as it is."""
    return WORDS.get(stage or "", stage)
