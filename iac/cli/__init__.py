"""The command line `iac`. `iac.cli.client` is the API for scripts; `main` is the program."""

from __future__ import annotations

from iac.cli.program import main

__all__ = ["main"]
