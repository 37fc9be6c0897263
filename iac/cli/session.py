"""What every command gets: the options that all of them take, where they come from, and the client made from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from iac.cli import credentials
from iac.cli.client import ApiClient
from iac.cli.terminal import Terminal
from iac.cli.transport import checked_url

LOCAL = "http://127.0.0.1:8080"
"""Where a server listens that was told nothing."""


@dataclass(slots=True)
class Options:
    """What was given on the command line; None is what was not."""

    url: str | None = None
    token: str | None = None
    workspace: str | None = None
    ca_file: str | None = None
    json: bool | None = None
    no_color: bool | None = None


@dataclass
class Session:
    """One call of the program."""

    options: Options = field(default_factory=Options)
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @cached_property
    def terminal(self) -> Terminal:
        return Terminal(json=bool(self.options.json), no_color=bool(self.options.no_color), env=self.env)

    @cached_property
    def stored(self) -> credentials.Stored:
        return credentials.load(self.credentials_path)

    @property
    def credentials_path(self) -> Path:
        return credentials.path_of(self.env)

    @property
    def url(self) -> str:
        given = self.options.url or self.env.get("IAC_URL")
        return checked_url(given or self.stored.default or LOCAL)

    @property
    def given_token(self) -> str | None:
        """The one of this call, not a stored one."""
        return self.options.token or self.env.get("IAC_TOKEN") or None

    @property
    def token(self) -> str | None:
        if self.given_token is not None:
            return self.given_token
        known = self.stored.servers.get(self.url)
        return None if known is None else known.token

    @property
    def ca_file(self) -> str | None:
        return self.options.ca_file or self.env.get("IAC_CA_FILE") or None

    @cached_property
    def client(self) -> ApiClient:
        return ApiClient(self.url, self.token, self.ca_file)

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()

    @property
    def workspace_given(self) -> str | None:
        return self.options.workspace or self.env.get("IAC_WORKSPACE") or None

    @property
    def workspace(self) -> str:
        """Raises UsageError when nobody said which."""
        if self.workspace_given is None:
            raise click.UsageError("Which workspace? Say it with -w NAME, or set IAC_WORKSPACE.")
        return self.workspace_given

    def choose_workspace(self, name: str | None) -> str:
        """The one named as an argument, else the one of the options."""
        if name is not None:
            self.options.workspace = name
        return self.workspace


pass_session = click.make_pass_decorator(Session, ensure=True)

_GLOBAL: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--url",), {"metavar": "URL", "help": f"The server (IAC_URL; else that of the last login; else {LOCAL})."}),
    (("--token",), {"metavar": "TOKEN", "help": "API token (better: IAC_TOKEN, or iac login)."}),
    (("-w", "--workspace"), {"metavar": "NAME", "help": "The workspace, by name or id (IAC_WORKSPACE)."}),
    (("--ca-file",), {"metavar": "FILE", "help": "Certificates to trust for https (IAC_CA_FILE)."}),
    (("--json",), {"is_flag": True, "default": None, "help": "Results as JSON on stdout, all else on stderr."}),
    (("--no-color",), {"is_flag": True, "default": None, "help": "No colours (NO_COLOR)."}),
)


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    """The option that stands further right wins."""
    if value is not None and option.name is not None:
        setattr(context.ensure_object(Session).options, option.name, value)


def _global_options() -> list[click.Option]:
    return [click.Option(names, callback=_remember, expose_value=False, **rest) for names, rest in _GLOBAL]


class Command(click.Command):
    """Takes the global options too, and lists them apart from its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self.params.extend(_global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = [(p, p.get_help_record(ctx)) for p in self.get_params(ctx)]
        for title, wanted in (("Options", True), ("Global options", False)):
            rows = [record for p, record in records if record is not None and _own(p) is wanted]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _own(parameter: click.Parameter) -> bool:
    return parameter.callback is not _remember


class Group(click.Group):
    """A group whose commands all take the global options; unknown commands get a suggestion."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self.params.extend(_global_options())
