"""The shape of the code, as rules over its syntax trees: who may import whom, and what no module does.

Each rule is a function from a module to what is wrong with it, and has a bad snippet that it must find.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = frozenset({"iac.server", "iac.agent", "iac.cli"})
LONGEST_FILE = 400
LONGEST_FUNCTION = 60

ABOVE = frozenset({"iac", "iac.errors"})
"""The version and the error tree: for everybody."""
EXECUTION = ABOVE | {"iac.telemetry", "iac.domain", "iac.executor", "iac.actors"}
SERVER_SIDE = EXECUTION | {"iac.store", "iac.executor.accessor_local"}
EVERYTHING = SERVER_SIDE | {"iac.settings", "iac.web", "iac.launchers", "iac.cli"}
SERVERS_ACTORS = tuple(
    f"iac.actors.{name}"
    for name in (
        "dispatcher",
        "recovery",
        "local_runner",
        "local_stops",
        "cancel_watch",
        "fleet",
        "agent_talk",
        "roll_call",
        "agent_connection",
        "lease_keeper",
        "audit_keeper",
        "log_persister",
        "log_cleaner",
    )
)
LAYERS: Mapping[str, frozenset[str]] = {
    "iac": frozenset(),
    "iac.errors": frozenset(),
    "iac.settings": ABOVE | {"iac.domain"},
    "iac.telemetry": ABOVE | {"iac.settings"},
    "iac.domain": ABOVE | {"iac.domain"},
    "iac.store": ABOVE | {"iac.domain", "iac.store"},
    "iac.executor": ABOVE | {"iac.telemetry", "iac.domain", "iac.executor"},
    "iac.executor.accessor_local": ABOVE | {"iac.telemetry", "iac.domain", "iac.executor", "iac.store"},
    "iac.agent_settings": ABOVE | {"iac.settings"},
    "iac.actors": EXECUTION | {"iac.settings", "iac.agent_settings"},
    **dict.fromkeys(SERVERS_ACTORS, SERVER_SIDE),
    "iac.launchers": ABOVE | {"iac.domain", "iac.launchers"},
    "iac.web": SERVER_SIDE | {"iac.web", "iac.web.ui.models"},
    "iac.web.ui.models": ABOVE | {"iac.domain", "iac.web.ui.models"},
    "iac.cli": ABOVE | {"iac.domain", "iac.cli"},
    "iac.server": EVERYTHING,
    "iac.agent": EXECUTION | {"iac.settings", "iac.agent_settings"},
}
"""What each part may import of ours; the longest name that fits a module is its part."""

IMPURE = frozenset(
    [
        "asyncio",
        "httpx",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "signal",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
        "time",
        "trio",
    ]
)
"""What pure parts do without: their time, their randomness and their files are arguments."""
PURE = ("iac.domain", "iac.web.ui.models")
BRIDGE = frozenset({"asyncio", "trio_asyncio", "databases", "asyncpg"})
ONLY_IN: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(BRIDGE, ("iac.store.database",)),
    "jinja2": ("iac.web.ui.rendering",),
    "httpx": ("iac.executor.download", "iac.executor.remote_client", "iac.executor.accessor_remote", "iac.cli"),
}
NAMELESS = frozenset({"util", "utils", "helper", "helpers", "common", "misc", "manager", "base", "core"})


@dataclass(frozen=True)
class Module:
    """One file of ours. `known` are the names of all modules, so that `from a import b` can be told apart."""

    name: str
    source: str
    known: frozenset[str] = frozenset()

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    def imports(self) -> Iterator[tuple[str, int]]:
        """Modules that this one imports, ours and others', with the line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield (whole if whole in self.known else node.module), node.lineno


Rule = Callable[[Module], Iterator[str]]


def part_of(name: str) -> str | None:
    """The longest prefix of the name that has a layer of its own; bare `iac` is a part only of itself."""
    pieces = name.split(".")
    prefixes = [".".join(pieces[:count]) for count in range(len(pieces), 1, -1)]
    return next((prefix for prefix in prefixes if prefix in LAYERS), name if name == "iac" else None)


def imports_follow_the_layers(module: Module) -> Iterator[str]:
    part = part_of(module.name)
    if part is None:
        yield f"{module.name} belongs to no part that this test knows"
        return
    for name, line in module.imports():
        if name.partition(".")[0] != "iac":
            continue
        target = part_of(name)
        # A server-side actor is part of iac.actors for those who may import the server side, and a stranger otherwise.
        allowed = target in LAYERS[part] or (LAYERS[part] >= SERVER_SIDE and (target or "").startswith("iac.actors"))
        if not allowed:
            yield f"line {line}: {module.name} imports {name}"


def pure_parts_are_pure(module: Module) -> Iterator[str]:
    if not module.name.startswith(PURE):
        return
    for name, line in module.imports():
        if name.partition(".")[0] in IMPURE:
            yield f"line {line}: import {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print", "input"):
            yield f"line {node.lineno}: {ast.unparse(node.func)}()"
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today") and _is_clock(node.value):
            yield f"line {node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"line {node.lineno}: something asynchronous"


def _is_clock(value: ast.expr) -> bool:
    return ast.unparse(value).rpartition(".")[2] in ("datetime", "date")


def libraries_stay_where_they_belong(module: Module) -> Iterator[str]:
    for name, line in module.imports():
        places = ONLY_IN.get(name.partition(".")[0])
        if places is not None and not any(module.name == each or module.name.startswith(f"{each}.") for each in places):
            yield f"line {line}: {name} belongs in {' or '.join(places)}"


def imports_are_absolute_and_at_the_top(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"line {node.lineno}: relative import"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Import | ast.ImportFrom):
                    yield f"line {inner.lineno}: import inside {node.name}"


def names_say_something(module: Module) -> Iterator[str]:
    for piece in module.name.split("."):
        if NAMELESS & set(piece.split("_")):
            yield f"{module.name}: {piece!r} says nothing about what is in it"


def files_and_functions_are_short(module: Module) -> Iterator[str]:
    lines = len(module.source.splitlines())
    if lines > LONGEST_FILE:
        yield f"{module.name} has {lines} lines, the limit is {LONGEST_FILE}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # What is defined inside is measured itself: a table of routes is as long as it has routes.
            length = _lines(node) - sum(map(_lines, _defined_in(node)))
            if length > LONGEST_FUNCTION:
                yield f"line {node.lineno}: {node.name} has {length} lines, the limit is {LONGEST_FUNCTION}"


def _lines(node: ast.stmt) -> int:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return (node.end_lineno or node.lineno) - first + 1


def _defined_in(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]


def only_the_facade_opens_transactions(module: Module) -> Iterator[str]:
    if module.name == "iac.store.database":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("transaction", "raw_connection"):
            yield f"line {node.lineno}: .{node.attr}; a store function runs in Database.tx"


def the_facade_uses_the_safe_transaction(module: Module) -> Iterator[str]:
    if module.name != "iac.store.database":
        return
    for node in ast.walk(module.tree):
        own = isinstance(node, ast.Attribute) and node.attr == "transaction" and ast.unparse(node.value)
        if own and not own.endswith("raw_connection"):
            yield "databases' own transaction loses a connection at each failed COMMIT"


def only_programs_read_the_environment(module: Module) -> Iterator[str]:
    if module.name == "iac.executor.leftovers":  # it must know the one TMPDIR that would match everybody's processes
        return
    if any(module.name == each or module.name.startswith(f"{each}.") for each in PROGRAMS):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv"):
            yield f"line {node.lineno}: {ast.unparse(node)}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (f"line {node.lineno}: {a.name}" for a in node.names if a.name in ("environ", "getenv"))


RULES: tuple[Rule, ...] = (
    imports_follow_the_layers,
    pure_parts_are_pure,
    libraries_stay_where_they_belong,
    imports_are_absolute_and_at_the_top,
    names_say_something,
    files_and_functions_are_short,
    only_the_facade_opens_transactions,
    the_facade_uses_the_safe_transaction,
    only_programs_read_the_environment,
)


def modules() -> list[Module]:
    files = {_name(path): path for path in sorted((ROOT / "iac").rglob("*.py"))}
    return [Module(name, path.read_text(encoding="utf-8"), frozenset(files)) for name, path in files.items()]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def cycle_in(found: list[Module]) -> list[str]:
    """Modules that import each other in a circle; empty when there are none."""
    graph = {module.name: {name for name, _ in module.imports() if name in module.known} for module in found}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    assert [f"{module.name}: {problem}" for module in modules() for problem in rule(module)] == []


def lengths(part: str) -> dict[str, int]:
    """Lines of each file of a part around the product."""
    files = sorted((ROOT / part).rglob("*.py"))
    return {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}


@pytest.mark.parametrize("part", ["tests", "bench", "demo"])
def test_files_around_the_product_are_short_too(part: str) -> None:
    assert {name: lines for name, lines in lengths(part).items() if lines > LONGEST_FILE} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert cycle_in(modules()) == []


KNOWN = frozenset({"iac.store.tasks", "iac.web.app", "iac.actors.dispatcher", "iac.a", "iac.b", "iac.telemetry"})


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (imports_follow_the_layers, "iac.domain.x", "from iac.store import tasks"),
        (imports_follow_the_layers, "iac.domain.x", "import iac.executor.process"),
        (imports_follow_the_layers, "iac.domain.x", "from iac import telemetry"),
        (imports_follow_the_layers, "iac.store.x", "from iac.web.app import create_app"),
        (imports_follow_the_layers, "iac.executor.x", "from iac.store import tasks"),
        (imports_follow_the_layers, "iac.executor.x", "from iac.executor.accessor_local import Changes"),
        (imports_follow_the_layers, "iac.actors.worker", "from iac.store.tasks import move"),
        (imports_follow_the_layers, "iac.actors.worker", "from iac.actors import dispatcher"),
        (imports_follow_the_layers, "iac.web.x", "from iac.server import run_server"),
        (imports_follow_the_layers, "iac.cli.x", "from iac.store import tasks"),
        (imports_follow_the_layers, "iac.web.ui.models.x", "from iac.store import tasks"),
        (imports_follow_the_layers, "iac.web.ui.models.x", "from iac.web.app import create_app"),
        (imports_follow_the_layers, "iac.agent", "from iac.store import tasks"),
        (imports_follow_the_layers, "iac.errors", "from iac.domain import ids"),
        (imports_follow_the_layers, "iac.newcomer", ""),
        (pure_parts_are_pure, "iac.domain.x", "import os"),
        (pure_parts_are_pure, "iac.domain.x", "from time import monotonic"),
        (pure_parts_are_pure, "iac.domain.x", "import trio.lowlevel"),
        (pure_parts_are_pure, "iac.domain.x", "def f(): return datetime.now(UTC)"),
        (pure_parts_are_pure, "iac.domain.x", "def f(p): return open(p)"),
        (pure_parts_are_pure, "iac.domain.x", "async def f(): ..."),
        (pure_parts_are_pure, "iac.web.ui.models.x", "def f(): return datetime.now(UTC)"),
        (libraries_stay_where_they_belong, "iac.web.ui.overview", "from jinja2 import Environment"),
        (libraries_stay_where_they_belong, "iac.store.tasks", "import asyncpg"),
        (libraries_stay_where_they_belong, "iac.web.x", "from asyncio import Future"),
        (libraries_stay_where_they_belong, "iac.store.database_more", "import databases"),
        (libraries_stay_where_they_belong, "iac.actors.x", "import httpx"),
        (imports_are_absolute_and_at_the_top, "iac.web.x", "from . import views"),
        (imports_are_absolute_and_at_the_top, "iac.web.x", "def f():\n    import json"),
        (names_say_something, "iac.web.utils", ""),
        (names_say_something, "iac.helpers.text", ""),
        (names_say_something, "iac.actors.task_manager", ""),
        (files_and_functions_are_short, "iac.web.x", "x = 1\n" * (LONGEST_FILE + 1)),
        (files_and_functions_are_short, "iac.web.x", "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION),
        (only_the_facade_opens_transactions, "iac.store.x", "async with c.transaction(): ..."),
        (only_the_facade_opens_transactions, "iac.store.x", "c.raw_connection.execute('x')"),
        (the_facade_uses_the_safe_transaction, "iac.store.database", "self._pool.transaction()"),
        (only_programs_read_the_environment, "iac.settings", "import os\nx = os.environ['A']"),
        (only_programs_read_the_environment, "iac.settings", "from os import getenv"),
    ],
)
def test_the_rule_finds_what_breaks_it(rule: Rule, name: str, source: str) -> None:
    assert list(rule(Module(name, source, KNOWN)))


def test_a_circle_of_imports_is_found() -> None:
    pair = [Module("iac.a", "from iac import b", KNOWN), Module("iac.b", "from iac.a import x", KNOWN)]
    assert set(cycle_in(pair)) == {"iac.a", "iac.b"}


AGENTS_PARTS = (
    "iac.agent",
    "iac.executor.executor",
    "iac.actors.worker",
    "iac.actors.canceller",
    "iac.actors.running",
    "iac.actors.supervision",
)
SERVERS_LIBRARIES = (
    "quart",
    "hypercorn",
    "databases",
    "asyncpg",
    "trio_asyncio",
    "cryptography",
    "iac.store",
    "iac.web",
)


def loaded_with(names: tuple[str, ...], suspects: tuple[str, ...]) -> set[str]:
    """Which of the suspects a fresh interpreter has loaded after importing the names."""
    code = f"import {', '.join(names)}; import sys; print(*[name for name in {suspects} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_what_an_agent_is_made_of_needs_neither_database_nor_web_server() -> None:
    assert loaded_with(AGENTS_PARTS, SERVERS_LIBRARIES) == set()


def test_a_server_part_in_the_agent_would_be_noticed() -> None:
    assert loaded_with(("iac.actors.dispatcher",), ("asyncpg", "iac.store")) == {"asyncpg", "iac.store"}
