"""iac login, logout, whoami: tokens by server."""

from __future__ import annotations

import sys

import click

from iac.cli import credentials
from iac.cli.client import ApiClient
from iac.cli.failures import Refused
from iac.cli.session import Command, Session, pass_session


@click.command("login", cls=Command)
@pass_session
def login(session: Session) -> None:
    """Check an API token and keep it for this server.

    The token is that of --token or IAC_TOKEN, else it is asked for, or read from a pipe. It is kept in
    $XDG_CONFIG_HOME/iac/credentials.json, which only you can read, and never shown.
    """
    terminal, url = session.terminal, session.url
    token = (session.given_token or _asked(url)).strip()
    if not token:
        raise Refused("No token was given.")
    with ApiClient(url, token, session.ca_file) as client:
        me = client.me()
    credentials.save(session.credentials_path, credentials.with_login(session.stored, url, token))
    if terminal.json:
        terminal.document({"url": url, "name": me.name, "role": me.role})
    terminal.note(f"Logged in to {url} as {me.name} ({me.role}).", "green")


def _asked(url: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    answer: str = click.prompt(f"API token for {url}", hide_input=True, err=True)
    return answer


@click.command("logout", cls=Command)
@pass_session
def logout(session: Session) -> None:
    """Forget the token of this server. The token itself stays valid."""
    url, stored = session.url, session.stored
    known = url in stored.servers
    if known:
        credentials.save(session.credentials_path, credentials.without(stored, url))
    if session.terminal.json:
        session.terminal.document({"url": url, "forgotten": known})
    session.terminal.note(f"The token for {url} is forgotten." if known else f"There was no token for {url}.")


@click.command("whoami", cls=Command)
@pass_session
def whoami(session: Session) -> None:
    """Show who the token is, and what it may do."""
    me, terminal = session.client.me(), session.terminal
    if terminal.json:
        terminal.document({"url": session.url, "me": me})
        return
    terminal.facts(
        {
            "Server": f"{session.url} (version {me.version})",
            "Name": me.name,
            "Role": me.role,
            "Rights": ", ".join(me.rights),
        }
    )
