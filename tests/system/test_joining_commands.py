"""What the UI tells an admin to paste, pasted: a real agent joins the pool with it, and its page says so."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

from tests.harness.postgres import fresh_database
from tests.web.clients import served
from tests.web.test_ui_live import address_of, stream
from tests.web.visitors import Visitor, visitor

WITHIN = 60.0


def commands(person: Visitor, pool: str) -> list[str]:
    """The steps for a host, as the page has them."""
    made = person.asks(f"/agents/pools/{pool}/tokens", data={"name": "first"})
    assert made.status_code == 200
    return [html.unescape(code) for code in re.findall(r'aria-label="A host, step \d">(.*?)</pre>', made.text, re.S)]


def test_an_agent_joins_by_the_commands_that_are_shown(postgres: str, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    with served(tmp_path / "data", fresh_database(postgres)) as server, visitor(server.url) as person:
        server.admin.post("/agent-pools", 201, json={"name": "hosts"})
        keep, _, start = commands(person, "hosts")
        subprocess.run(["bash", "-euc", keep], cwd=host, check=True)
        environment = {name: text for name, text in os.environ.items() if not name.startswith("IAC_")}
        with stream(person, address_of(person.get("/agents/pools/hosts").text)) as events:
            # It is installed already, for these tests: instead of the second step.
            here = start.replace(".venv/bin/python", f"exec {sys.executable}")
            agent = subprocess.Popen(["bash", "-euc", here], cwd=host, env=environment)
            try:
                until, page = monotonic() + WITHIN, ""
                while "1 of 1 agent online" not in page and monotonic() < until:
                    events.until("patch")
                    page = person.get("/agents/pools/hosts").text
                assert "1 of 1 agent online" in page
                assert os.uname().nodename in page
            finally:
                agent.send_signal(signal.SIGTERM)
                agent.wait(WITHIN)
