"""Everything but runs: credentials, workspaces, variables, states, and what is said when it goes wrong."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import click
import trio

from iac.cli.program import program
from tests.cli.running import CommandLine, on_terminal
from tests.harness.server import TOKEN, RunningServer, running_server

STATE = {
    "version": 4,
    "terraform_version": "1.11.4",
    "serial": 3,
    "lineage": "11111111-2222-3333-4444-555555555555",
    "outputs": {"n": {"value": 5, "type": "number"}, "l": {"value": ["a"], "type": ["list", "string"]}},
    "resources": [],
    "check_results": None,
}


async def test_a_login_is_kept_where_only_its_owner_reads(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        bare = iac.but(token=None)
        wrong = await bare("login", "--url", server.url, stdin="no-such-token-at-all-but-long\n", expect=1)
        assert "unknown, expired or revoked" in wrong.err
        logged_in = await bare("login", "--url", f"{server.url}/", stdin=f"{TOKEN}\n")
        file = iac.home / ".config" / "iac" / "credentials.json"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        me = await bare("whoami", "--json")
        assert (me.json["url"], me.json["me"]["role"]) == (server.url, "admin")
        elsewhere = bare.but(more={"XDG_CONFIG_HOME": str(tmp_path / "config")}, token=TOKEN)
        await elsewhere("login", "--url", server.url)
        assert (tmp_path / "config" / "iac" / "credentials.json").exists()
        out = await bare("logout")
        after = await bare("whoami", "--url", server.url, expect=1)
        assert f"iac login --url {server.url}" in after.err
        assert TOKEN not in "".join(done.out + done.err for done in (wrong, logged_in, me, out, after))
        assert TOKEN not in file.read_text()


async def test_on_a_terminal_the_token_is_asked_for_and_not_echoed(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:

        def answer() -> None:
            with on_terminal(iac.but(token=None), "login", "--url", server.url) as shown:
                shown.until("API token for")
                shown.until(":")
                shown.type(f"{TOKEN}\n")
                assert shown.ended() == 0
                assert TOKEN.encode() not in shown.shown

        await trio.to_thread.run_sync(answer)


async def test_workspaces_are_made_listed_locked_and_deleted(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        iac = iac.but(url=server.url)
        assert "no workspaces yet" in (await iac("workspace", "list")).err
        made = await iac(
            "workspace", "create", "net work", "--tag", "team=a", "--terraform-version", "~> 1.5", "--json"
        )
        assert (made.json["name"], made.json["tags"]) == ("net work", {"team": "a"})
        listed = await iac("workspace", "list")
        assert [line.split("  ")[0] for line in listed.out.splitlines()] == ["NAME", "net work"]
        assert [found["name"] for found in (await iac("workspace", "list", "--json")).json["items"]] == ["net work"]
        locked = await iac("workspace", "lock", "net work", "--reason", "holidays", "--json")
        assert locked.json["lock"]["token"]
        again = await iac("-w", "net work", "workspace", "lock", expect=1)
        assert "locked by admin" in again.err
        assert "Lock:" in (await iac("workspace", "show", "net work")).out
        await iac("workspace", "unlock", "-w", "net work")
        twice = await iac("workspace", "create", "net work", "--json", expect=1)
        assert twice.json["error"]["code"] == "name_in_use"
        assert "--yes" in (await iac("workspace", "delete", "net work", expect=2)).err
        assert (await iac("workspace", "delete", "net work", "--yes", "--json")).json["deleted"] is True


async def test_variables_are_set_changed_and_removed(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w")
        iac = iac.but(url=server.url, workspace="w")
        await iac("var", "set", "region=eu=west")
        await iac("var", "set", "zones", "--hcl", "--stdin", stdin='["a"]\n')
        secret = await iac("var", "set", "PASSWORD", "--env", "--sensitive", "--stdin", "--json", stdin="s3cr3t\n\n")
        assert (secret.json["value"], secret.json["category"]) == (None, "environment")
        changed = await iac("var", "set", "region=", "--description", "where", "--json")
        assert (changed.json["value"], changed.json["version"], changed.json["description"]) == ("", 2, "where")
        listed = await iac("var", "list")
        assert "s3cr3t" not in listed.out
        assert "(sensitive)" in listed.out
        kept = {known["key"]: known for known in (await iac("var", "list", "--json")).json["items"]}
        assert (kept["zones"]["value"], kept["zones"]["hcl"]) == ('["a"]', True)
        assert "--env" in (await iac("var", "rm", "PASSWORD", expect=1)).err
        await iac("var", "rm", "PASSWORD", "--env")
        assert "--stdin" in (await iac("var", "set", "x", expect=2)).err

        def type_it() -> None:
            with on_terminal(iac, "var", "set", "typed", "--sensitive") as shown:
                shown.until("Value of typed")
                shown.until(":")
                shown.type("hidden\n")
                assert shown.ended() == 0
                assert b"hidden" not in shown.shown

        await trio.to_thread.run_sync(type_it)


async def test_states_are_pushed_pulled_and_rolled_back(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("w")
        iac = iac.but(url=server.url, workspace="w")
        assert "no state" in (await iac("state", "list")).err
        first = tmp_path / "first.tfstate"
        first.write_text(json.dumps(STATE, indent=1))
        assert (await iac("state", "push", str(first), "--json")).json["serial"] == 3
        newer = json.dumps({**STATE, "serial": 4, "outputs": {}})
        await iac("state", "push", "-", stdin=newer)
        assert (await iac("state", "pull")).out == newer
        assert (await iac("state", "pull", "3")).out == first.read_text()
        low = await iac("state", "push", str(first), "--json", expect=1)
        assert low.json["error"]["code"] == "state_serial_too_low"
        assert "--yes" in (await iac("state", "rollback", "3", expect=2)).err
        assert (await iac("state", "rollback", "3", "--yes", "--json")).json["rollback_of"] == 3
        assert "Rollback of:" in (await iac("state", "show")).out
        serials = [kept["serial"] for kept in (await iac("state", "list", "--json")).json["items"]]
        assert serials == [5, 4, 3]
        assert len((await iac("state", "list")).out.splitlines()) == 4
        assert (await iac("output")).out == 'l = [\n  "a"\n]\nn = 5\n'
        assert (await iac("output", "n", "--raw")).out == "5"
        assert "use --json" in (await iac("output", "l", "--raw", expect=1)).err
        assert "There are: " in (await iac("output", "m", expect=1)).err


async def with_task(server: RunningServer) -> int:
    """A task that waits for ever: its workspace is locked."""
    await server.workspace("w", {"main.tf": ""})
    await server.call("POST", "/api/v1/workspaces/w/lock", json={"reason": "tests"})
    return await server.task("w", "destroy", message="bye\x1b[2J")


async def test_tasks_are_listed_shown_and_cancelled(iac: CommandLine, tmp_path: Path, database_url: str) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        task = str(await with_task(server))
        iac = iac.but(url=server.url)
        listed = await iac("task", "list", "--status", "pending,queued", "-w", "w")
        assert "destroy" in listed.out
        assert "\x1b" not in listed.out
        page = (await iac("task", "list", "--json")).json
        assert (page["items"][0]["wait"]["code"], page["counts"]) == ("workspace_locked", {"pending": 1})
        assert "no such tasks" in (await iac("task", "list", "--action", "plan")).err
        assert "admin locked the workspace: tests" in (await iac("task", "show", task)).out
        refused = await iac("task", "confirm", task, "--json", expect=1)
        assert refused.json["error"]["code"] == "illegal_transition"
        assert (await iac("task", "discard", task, "--json", expect=1)).json["error"]["status"] == "pending"
        assert (await iac("task", "resolve", task, "--json", expect=1)).json["error"]["code"] == "illegal_transition"
        cancelled = await iac("task", "cancel", task, "--follow", "--json", expect=1)
        assert cancelled.json["status"] == "cancelled"
        assert (await iac("task", "cancel", task, "--json", expect=1)).json["error"]["code"] == "already_final"
        assert (await iac("task", "flush-log", task, "--json", expect=1)).json["error"]["code"] == "illegal_transition"
        assert (await iac("task", "logs", "99", "--json", expect=1)).json["error"]["code"] == "not_found"


async def test_an_unknown_workspace_is_answered_with_the_ones_there_are(
    iac: CommandLine, tmp_path: Path, database_url: str
) -> None:
    async with running_server(tmp_path / "data", database_url) as server:
        await server.workspace("production")
        iac = iac.but(url=server.url)
        assert "Did you mean production?" in (await iac("output", "-w", "Prodcution", expect=1)).err
        assert "There are: production" in (await iac("workspace", "show", "x", expect=1)).err
        assert "-w NAME" in (await iac("output", expect=2)).err


async def test_a_server_that_is_not_there_is_told(iac: CommandLine) -> None:
    iac = iac.but(url="http://127.0.0.1:9")
    told = await iac("whoami", "--json", expect=1)
    assert (told.json["error"]["code"], told.json["error"]["url"]) == ("unreachable", "http://127.0.0.1:9")
    assert "Connection refused" in told.err
    assert "no URL of a server" in (await iac("whoami", "--url", "localhost:8080", expect=1)).err
    assert "cannot be used" in (await iac("whoami", "--ca-file", "/nowhere", expect=1)).err


async def test_wrong_usage_is_2_unless_2_means_changes(iac: CommandLine) -> None:
    assert "Did you mean 'plan'?" in (await iac("run", "paln", expect=2)).err
    contradiction = ("run", "plan", "--no-upload", "--dir", ".", "-w", "w")
    assert "contradict" in (await iac(*contradiction, expect=2)).err
    await iac(*contradiction, "--detailed-exitcode", expect=1)
    asks = ("run", "apply", "-w", "w")
    assert "--auto-approve" in (await iac(*asks, expect=2)).err
    await iac(*asks, "--plan", "1", "--target", "a.b", expect=2)
    await iac("run", "plan", "--refresh-only", "--replace", "a.b", "-w", "w", expect=2)


def every_command(command: click.Command, path: str = "iac") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from every_command(each, f"{path} {name}")


def test_no_parameter_of_a_command_has_the_name_of_another_one() -> None:
    for path, command in every_command(program):
        names = [parameter.name for parameter in command.params]
        assert len(set(names)) == len(names), (path, names)
        assert command.help, path


async def test_version_help_and_completion_need_no_server(iac: CommandLine) -> None:
    assert (await iac("version", "--json")).json["version"]
    assert "Global options:" in (await iac("run", "apply", "--help")).out
    for shell in ("zsh", "fish", "bash"):
        assert "_IAC_COMPLETE" in (await iac("completion", shell)).out
    words = {"_IAC_COMPLETE": "bash_complete", "COMP_WORDS": "iac work", "COMP_CWORD": "1"}
    assert "workspace" in (await iac.but(more=words)()).out


async def test_damaged_credentials_are_told(iac: CommandLine) -> None:
    file = iac.home / ".config" / "iac" / "credentials.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert "is damaged" in (await iac.but(token=None)("whoami", expect=1)).err
