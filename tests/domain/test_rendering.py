from __future__ import annotations

import json
import re
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.domain.narration import narrate
from iac.domain.rendering import (
    MAX_JSON_LINE,
    ChangeSummary,
    Diagnostic,
    Event,
    Outputs,
    Renderer,
    ResourceProgress,
    StageMark,
    parse_marker,
    stage_marker,
)
from tests.harness.thoroughness import examples

ADDRESS = 'module.net["a b"].aws_vpc.main[0]'


def line(kind: str, message: str, **members: object) -> bytes:
    head = {"@level": "info", "@message": message, "@module": "terraform.ui", "@timestamp": "2026-01-01T00:00:00Z"}
    return msgspec.json.encode({**head, **members, "type": kind}) + b"\n"


def hook(kind: str, message: str, **members: object) -> bytes:
    return line(kind, message, hook={"resource": {"addr": ADDRESS, "resource_key": 0}, **members})


def rendered(raw: bytes) -> tuple[bytes, list[Event]]:
    renderer = Renderer()
    text, events = renderer.feed(raw)
    rest, more = renderer.finish()
    return text + rest, events + more


def plain(raw: bytes) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", rendered(raw)[0].decode())


APPLY = [
    line("version", "Terraform 1.11.4", terraform="1.11.4", ui="1.2"),
    hook("refresh_start", f"{ADDRESS}: Refreshing state... [id=vpc-1]", id_key="id", id_value="vpc-1"),
    hook("apply_start", f"{ADDRESS}: Creating...", action="create"),
    hook("provision_progress", "…", provisioner="local-exec", output="hello"),
    hook("apply_complete", f"{ADDRESS}: Creation complete", action="create", id_value="vpc-1", elapsed_seconds=61),
    line("diagnostic", "Error: no", diagnostic={"severity": "error", "summary": "no", "detail": "really\nnot"}),
    line("change_summary", "Apply complete!", changes={"add": 1, "change": 0, "remove": 0, "operation": "apply"}),
    line("outputs", "Outputs: 1", outputs={"a": {"sensitive": False, "type": "string", "value": "x"}}),
]
PIECES = st.one_of(
    st.sampled_from(APPLY),
    st.sampled_from(APPLY).map(lambda whole: whole[: len(whole) // 2]),
    st.sampled_from([b"\n", b"\r\n", b'{"@level"', b'{"@level"\n', b'{"@level":"info"}\n', b"{", b'{"@lev', b" "]),
    st.sampled_from([stage_marker("init", "begin", "2026-01-01T00:00:00Z"), b"\x1b[1mPlan:\x1b[0m\n", b"\xff\x00"]),
    st.binary(max_size=8),
)


def by_lines(raw: bytes) -> tuple[bytes, list[Event]]:
    """The contract, a line at a time and with all of the log at hand."""
    out: list[bytes] = []
    events: list[Event] = []
    for each in re.findall(rb"[^\n]*\n|[^\n]+", raw):
        told = narrate(each) if each.startswith(b'{"@level"') else None
        out.append(each if told is None else told[0].encode())
        events += [told[1]] if told and told[1] else []
    return b"".join(out), events


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join), st.data())
def test_the_output_depends_on_the_bytes_and_not_on_how_they_are_cut(raw: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    renderer = Renderer()
    out, events = b"", []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        text, more = renderer.feed(raw[start:end])
        out += text
        events += more
    text, more = renderer.finish()
    assert (out + text, events + more) == by_lines(raw)
    assert renderer.settled


def test_a_log_may_be_cut_anywhere() -> None:
    raw = b"".join([b"one\n", APPLY[2], b"two\n\n", APPLY[6], APPLY[7], b"\nthree"])
    for cut in range(len(raw) + 1):
        renderer = Renderer()
        parts = [renderer.feed(raw[:cut]), renderer.feed(raw[cut:]), renderer.finish()]
        assert (b"".join(text for text, _ in parts), [each for _, some in parts for each in some]) == by_lines(raw)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), st.just(b"\n{"), st.just(b'{"@leve')), max_size=20).map(b"".join))
def test_what_is_not_terraforms_passes_byte_by_byte(raw: bytes) -> None:
    assert rendered(raw) == (raw, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resource", "addr", "severity", "range", "snippet", "code", "value", "add", "x"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=examples(400), deadline=None)
@given(
    st.sampled_from(["diagnostic", "apply_start", "outputs", "change_summary", "", "new_in_2030"]),
    st.dictionaries(st.sampled_from(["hook", "diagnostic", "outputs", "changes", "type", "@module"]), JSON),
)
def test_members_of_any_shape_never_raise_and_never_vanish(kind: str, members: dict[str, object]) -> None:
    raw = json.dumps({"@level": "info", "@message": "something happened", "type": kind, **members}).encode()
    text, events = rendered(raw.replace(b'"@level": ', b'"@level":', 1))
    assert text or events == [Outputs(())]


def test_what_is_decided_is_not_held_back() -> None:
    renderer = Renderer()
    assert renderer.feed(b"half a line")[0] == b"half a line"
    assert not renderer.settled
    assert renderer.feed(b'{"@level"')[0] == b'{"@level"'  # not at a line's start
    assert renderer.feed(b'\n{"@lev')[0] == b"\n"
    assert not renderer.settled
    assert renderer.feed(b"y")[0] == b'{"@levy'
    assert renderer.feed(b"\n")[0] == b"\n"
    assert renderer.settled


def test_a_line_too_long_to_be_terraforms_passes_as_it_is() -> None:
    head = b'{"@level":"info","@message":"'
    fits = head + b"x" * (MAX_JSON_LINE - len(head) - 2) + b'"}'
    too_long = head + b"x" * (MAX_JSON_LINE - len(head) - 1) + b'"}'
    for step in (4096, 65_537, 1 << 21):
        for raw in (fits + b"\n", too_long + b"\n"):
            renderer = Renderer()
            parts = [renderer.feed(raw[at : at + step])[0] for at in range(0, len(raw), step)]
            out = b"".join(parts) + renderer.finish()[0]
            assert (out == raw) is (len(raw) > MAX_JSON_LINE + 1)


def test_progress_of_a_resource_is_bold_and_an_event() -> None:
    text, events = rendered(b"".join(APPLY[2:5]))
    assert text.decode() == (
        f"\x1b[1m{ADDRESS}: Creating...\x1b[0m\n"
        f"\x1b[1m{ADDRESS} (local-exec):\x1b[0m hello\n"
        f"\x1b[1m{ADDRESS}: Creation complete\x1b[0m\n"
    )
    assert events == [
        ResourceProgress(ADDRESS, "create", "started"),
        ResourceProgress(ADDRESS, "create", "complete", 61.0, "vpc-1"),
    ]


def test_long_work_and_failed_work_are_events_too() -> None:
    raw = hook("apply_progress", "Still destroying", action="delete", id_value="vpc-1", elapsed_seconds=10) + hook(
        "apply_errored", "Destruction errored after 12s", action="delete", elapsed_seconds=12
    )
    text, events = rendered(raw)
    assert text.endswith(b"\x1b[1m\x1b[31mDestruction errored after 12s\x1b[0m\n")
    assert events == [
        ResourceProgress(ADDRESS, "delete", "progress", 10.0, "vpc-1"),
        ResourceProgress(ADDRESS, "delete", "errored", 12.0),
    ]


def test_lines_that_say_nothing_new_are_left_out() -> None:
    quiet = [
        APPLY[0],
        hook("refresh_complete", "Refresh complete"),
        hook("provision_complete", "Provisioning complete"),
    ]
    assert rendered(b"".join(quiet)) == (b"", [])


def test_a_summary_counts_imports_and_forgotten_resources() -> None:
    message = "Apply complete! Resources: 3 imported, 2 added, 0 changed, 1 destroyed, 4 forgotten."
    counts = {"add": 2, "change": 0, "remove": 1, "import": 3, "forget": 4, "operation": "apply"}
    raw = line("change_summary", message, changes=counts)
    assert rendered(raw) == (
        f"\n\x1b[1m\x1b[32m{message}\x1b[0m\n".encode(),
        [ChangeSummary(add=2, change=0, remove=1, import_=3, operation="apply", forget=4)],
    )


def test_outputs_are_shown_and_sensitive_ones_are_not() -> None:
    outputs = {
        "list": {"sensitive": False, "type": "x", "value": ["a", 1, None, True, {"k": []}]},
        "lines": {"sensitive": False, "type": "string", "value": "a\nb"},
        "secret": {"sensitive": True, "type": "string", "value": "sesame"},
    }
    raw = line("outputs", "Outputs: 3", outputs=outputs)
    shown = """
Outputs:

list = [
  "a",
  1,
  null,
  true,
  {
    "k" = []
  },
]
lines = <<EOT
a
b
EOT
secret = (sensitive value)
"""
    assert plain(raw) == shown
    assert rendered(raw)[1] == [Outputs(("list", "lines", "secret"))]


def test_planned_outputs_are_no_outputs_yet() -> None:
    raw = line("outputs", "Outputs: 1", outputs={"a": {"sensitive": True, "action": "create"}})
    assert plain(raw) == "\nChanges to Outputs:\n  a: create\n\n"
    assert rendered(raw)[1] == []


DIAGNOSTIC = {
    "severity": "error",
    "summary": "Invalid function argument",
    "detail": "Invalid value for\n\nparameter.\n",
    "address": ADDRESS,
    "range": {"filename": "main.tf", "start": {"line": 7, "column": 12, "byte": 95}, "end": {"line": 7}},
    "snippet": {
        "context": 'resource "aws_vpc" "main"',
        "code": "\tcidr = é(\n    var.x)\n}",
        "start_line": 7,
        "highlight_start_offset": 8,
        "highlight_end_offset": 17,
        "values": [{"traversal": "var.x", "statement": "is 3"}],
        "function_call": {"name": "é", "signature": {"name": "é"}},
    },
}


def test_a_diagnostic_is_a_box_with_its_place_and_values() -> None:
    text, events = rendered(line("diagnostic", "Error: Invalid function argument", diagnostic=DIAGNOSTIC))
    assert text.startswith("\x1b[31m╷\x1b[0m\n\x1b[31m│\x1b[0m \x1b[1m\x1b[31mError: \x1b[0m\x1b[1mInvalid".encode())
    assert plain(line("diagnostic", "-", diagnostic=DIAGNOSTIC)) == (
        "╷\n"
        "│ Error: Invalid function argument\n"
        "│ \n"
        f"│   with {ADDRESS},\n"
        '│   on main.tf line 7, in resource "aws_vpc" "main":\n'
        "│    7: \tcidr = é(\n"
        "│       \t       ^^\n"
        "│    8:     var.x)\n"
        "│    9: }\n"
        "│     ├────────────────\n"
        "│     │ while calling é\n"
        "│     │ var.x is 3\n"
        "│ \n"
        "│ Invalid value for\n"
        "│ \n"
        "│ parameter.\n"
        "╵\n"
    )
    assert events == [Diagnostic("error", "Invalid function argument", ADDRESS)]


def test_a_warning_without_a_place_is_a_small_yellow_box() -> None:
    raw = line("diagnostic", "-", diagnostic={"severity": "warning", "summary": "old", "detail": "", "range": None})
    assert rendered(raw)[0].decode() == (
        "\x1b[33m╷\x1b[0m\n\x1b[33m│\x1b[0m \x1b[1m\x1b[33mWarning: \x1b[0m\x1b[1mold\x1b[0m\n\x1b[33m╵\x1b[0m\n"
    )


def test_a_type_that_only_newer_versions_know_is_told_by_its_message() -> None:
    assert plain(line("action_start", "Action started: x", hook={"action": {"addr": "action.x"}})) == (
        "Action started: x\n"
    )
    assert plain(line("planned_change", "a.b: Plan to create", change={"action": "create"})) == "a.b: Plan to create\n"
    assert plain(line("change_summary", "Plan: 1 to add", changes={"add": "one"})) == "Plan: 1 to add\n"


def test_a_debug_line_in_json_keeps_all_its_fields() -> None:
    raw = b'{"@level":"debug","@message":"sent","@module":"http","@timestamp":"2026","status":200,"path":"/x y"}\n'
    assert plain(raw) == '2026 [DEBUG] http: sent status=200 path="/x y"\n'


@pytest.mark.parametrize(
    "raw",
    [
        b'{"@level":"info"}\n',
        b'{"@level":"info","@message":7}\n',
        b'{"@level":"info","@message":"cut\n',
        b'{"@level":"info","@message":"\xff"}\n',
        b'{"@level":"info","@message":"x"} and more\n',
        b'{"@level":' + b"[" * 100_000 + b"\n",
        b' {"@level":"info","@message":"x"}\n',
        b'x{"@level":"info","@message":"x"}\n',
    ],
)
def test_what_only_looks_like_such_a_line_passes(raw: bytes) -> None:
    assert rendered(raw) == (raw, [])


def test_a_last_line_that_lacks_its_newline_is_rendered() -> None:
    assert plain(APPLY[2][:-1]) == f"{ADDRESS}: Creating...\n"
    assert plain(APPLY[2][:-1] + b"\r\n") == f"{ADDRESS}: Creating...\n"


@pytest.mark.parametrize(
    "unit", [b"x", b'{"@level', b"\n", b'{"@leve\n', b"one line of an ordinary log of terraform\n"]
)
def test_floods_pass_quickly_and_whole(unit: bytes) -> None:
    raw = unit * (50_000_000 // len(unit))
    before = time.process_time()
    text, _ = rendered(raw)
    assert time.process_time() - before < 1.5
    assert text == raw


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    renderer = Renderer()
    before = time.process_time()
    out = renderer.feed(b'{"@level"')[0] + b"".join(renderer.feed(b"0123456789abcdef")[0] for _ in range(100_000))
    assert len(out) + len(renderer.finish()[0]) == 9 + 1_600_000
    assert time.process_time() - before < 5


# --- Stage markers ------------------------------------------------------------------------------------------------


@given(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.sampled_from(["begin", "end"]), st.text(max_size=40))
def test_a_marker_is_one_line_and_reads_back(stage: str, edge: str, detail: str) -> None:
    written = stage_marker(stage, "begin" if edge == "begin" else "end", "2026-01-01T00:00:00Z", detail)
    assert written.count(b"\n") == 1
    assert written.endswith(b"\n")
    mark = parse_marker(written)
    assert mark is not None
    assert (mark.stage, mark.edge, mark.at) == (stage, edge, "2026-01-01T00:00:00Z")
    assert len(mark.detail) <= len(detail)


def test_a_marker_reads_well() -> None:
    written = stage_marker("apply", "end", "2026-01-01T00:00:00Z", "exit code 1\nafter 3 s")
    assert written.decode() == "\x1b[2m── iac: stage apply end 2026-01-01T00:00:00Z · exit code 1 after 3 s ──\x1b[0m\n"
    assert parse_marker(written.rstrip()) == StageMark("apply", "end", "2026-01-01T00:00:00Z", "exit code 1 after 3 s")


def test_a_marker_after_half_a_line_starts_a_new_one() -> None:
    written = stage_marker("plan", "begin", "2026-01-01T00:00:00Z", fresh_line=False)
    assert written == b"\n" + stage_marker("plan", "begin", "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("other", [b"", b"\n", b"\xff\n", b"-- iac: stage x begin now --\n", "── iac: stage".encode()])
def test_other_lines_are_no_markers(other: bytes) -> None:
    assert parse_marker(other) is None


def test_a_marker_passes_the_renderer() -> None:
    written = stage_marker("plan", "begin", "2026-01-01T00:00:00Z")
    assert rendered(written) == (written, [])
