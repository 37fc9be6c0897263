"""The log viewer's modules that know nothing of the page, in the browser that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from iac.domain.log_index import ROW, LogIndex
from iac.web.ui.assets import asset
from tests.browser.people import Person, Site

NO_STYLE = {"fg": "", "bg": "", "bold": False, "dim": False, "italic": False, "underline": False, "strike": False}
PLAIN = {**NO_STYLE, "inverse": False}


@pytest.fixture(scope="module")
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    """Any page of the server: modules are loaded from it."""
    with Person.arrives(chromium, site) as someone:
        someone.page.goto("/login")
        yield someone.page


def run(page: Page, module: str, body: str, argument: object = None) -> Any:
    """What `body` returns, given the module as `m` and the argument as `a`."""
    return page.evaluate(f"async ([a]) => {{ const m = await import('{asset(module)}'); {body} }}", [argument])


def parsed(page: Page, text: str) -> list[tuple[str, dict[str, Any], bool]]:
    """Pieces, with what differs from no style."""
    pieces = run(page, "log-ansi.js", "return m.parseRow(a).pieces", text)
    return [
        (each["text"], {name: value for name, value in each["style"].items() if value != PLAIN[name]}, each["control"])
        for each in pieces
    ]


# Colours


@pytest.mark.parametrize(
    ("codes", "style"),
    [
        ("31", {"fg": "1"}),
        ("92", {"fg": "10"}),
        ("44", {"bg": "4"}),
        ("107", {"bg": "15"}),
        ("1;4;31", {"bold": True, "underline": True, "fg": "1"}),
        ("38;5;9", {"fg": "9"}),
        ("38;5;208", {"fg": "#ff8700"}),
        ("48;5;240", {"bg": "#585858"}),
        ("38;2;10;200;30", {"fg": "#0ac81e"}),
        ("38:2::10:200:30", {"fg": "#0ac81e"}),
        ("38:5:208", {"fg": "#ff8700"}),
        ("1;38;5;208;3", {"bold": True, "fg": "#ff8700", "italic": True}),
        ("31;0", {}),
        ("31;39", {}),
        ("1;22", {}),
        ("38;5;999", {}),
        ("38", {}),
        ("12345", {}),
    ],
)
def test_colours_and_manners_of_text_are_understood(page: Page, codes: str, style: dict[str, Any]) -> None:
    assert parsed(page, f"\x1b[{codes}mx") == [("x", style, False)]


def test_a_style_goes_on_in_the_next_row(page: Page) -> None:
    body = "const one = m.parseRow(a); return m.parseRow('next\\x1b[mlast', one.style).pieces.map((p) => p.style.fg)"
    assert run(page, "log-ansi.js", body, "\x1b[31mred") == ["1", ""]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x00", "^@"),
        ("\x07", "^G"),
        ("\r", "^M"),
        ("\x1b[2J", "^[[2J"),
        ("\x1b]8;;http://x\x07", "^[]8;;http://x^G"),
        ("\x7f", "^?"),
        ("\x9b31m", "<U+009B>31m"),
        ("\u202egpj.exe", "<U+202E>gpj.exe"),
        ("\u2066x\u2069", "<U+2066>x<U+2069>"),
        ("a\u200bb\ufeffc", "a<U+200B>b<U+FEFF>c"),
        ("\U000e0041", "<U+E0041>"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("tab\there, é, 漢字, 👩‍👩‍👧", "tab\there, é, 漢字, 👩‍👩‍👧"),
    ],
)
def test_what_is_not_text_is_made_visible_and_harmless(page: Page, text: str, shown: str) -> None:
    assert "".join(piece for piece, _, _ in parsed(page, text)) == shown
    assert run(page, "log-ansi.js", "return m.plainText(a)", text) == shown


def test_only_what_was_made_visible_is_marked_as_such(page: Page) -> None:
    assert [(text, control) for text, _, control in parsed(page, "a\x07b")] == [
        ("a", False),
        ("^G", True),
        ("b", False),
    ]


# Rows: the browser cuts as the server does

LOGS = {
    "lines": b"one\n\x1b[1mtwo\x1b[0m\r\n\nfour",
    "a long line": b"first\n" + b"x" * (3 * ROW + 7) + b"\nlast\n",
    "exactly a row": b"x" * ROW + b"\n" + b"y" * (ROW + 1) + b"\n",
    "characters at the edge": b"x" * (ROW - 1) + "é漢🙂".encode() * 900 + b"\n",
    "colours at the edge": b"x" * (ROW - 4) + b"\x1b[38;5;208m" + b"y" * ROW + b"\n",
    "many": b"".join(b"\x1b[3%dmline %d\n" % (n % 8, n) for n in range(9000)),
    "no end": b"z" * (150 * 1024),
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS.keys())
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_the_browser_cuts_a_live_log_as_the_server_cuts_a_stored_one(page: Page, log: bytes, step: int) -> None:
    index = LogIndex()
    index.feed(log)
    body = """const bytes = Uint8Array.from(a[0]); const pages = new m.Pages();
              for (let at = 0; at < bytes.length; at += a[1]) pages.feed(bytes.slice(at, at + a[1]));
              const starts = pages.starts.map((s) => [s.offset, s.row, s.line, s.continued]);
              return [pages.rows, pages.lines, pages.length, starts]"""
    rows, lines, length, starts = run(page, "log-pages.js", body, [list(log), step])
    assert (rows, lines, length) == (index.rows, index.lines, index.length)
    for offset, row, line, continued in starts:
        before = LogIndex()
        before.feed(log[:offset])
        assert (before.rows, log.count(b"\n", 0, offset), bool(offset) and log[offset - 1 : offset] != b"\n") == (
            row,
            line,
            continued,
        )


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS.keys())
def test_the_rows_of_a_page_are_its_text_and_nothing_else(page: Page, log: bytes) -> None:
    start = {"offset": 0, "line": 0, "continued": False}
    rows = run(page, "log-rows.js", "return m.rowsOf(Uint8Array.from(a[0]), a[1])", [list(log), start])
    assert "".join(row["text"] + ("" if row["broken"] else "\n") for row in rows).rstrip("\n") == log.decode().replace(
        "\r\n", "\n"
    ).rstrip("\n")
    assert [row["line"] for row in rows if not row["continued"]] == list(range(rows[-1]["line"] + 1))


# The window

WINDOW = "const w = new m.Window(20, a.tallest); w.resize(a.rows, 600);"


def test_a_log_that_fits_scrolls_pixel_by_pixel(page: Page) -> None:
    body = f"{WINDOW} w.scrolled(0, 130); return [w.tall, w.scale, w.top, w.shown.first, w.shown.hidden, w.bar]"
    assert run(page, "log-window.js", body, {"rows": 1000, "tallest": 12e6}) == [20_000, 1, 130, 6, 0.5, 130]


def test_a_log_that_is_too_tall_has_a_scaled_bar_and_real_steps(page: Page) -> None:
    body = f"""{WINDOW} const first = w.shown.first; w.scrolled(0, 1); w.scrolled(1, 501);
               return [first, w.top, w.tall, w.scale]"""
    rows, tallest = 10_000_000, 1_000_000
    first, top, tall, scale = run(page, "log-window.js", body, {"rows": rows, "tallest": tallest})
    assert (first, top, tall) == (0, 501, tallest)
    assert scale == pytest.approx((rows * 20 - 600) / (tallest - 600))


def test_both_ends_can_be_reached_by_the_bar(page: Page) -> None:
    body = f"""{WINDOW} const max = w.tall - w.height; w.scrolled(0, max); const end = [w.atEnd, w.shown.end];
               w.scrolled(max, max / 2); const middle = w.shown.first; w.scrolled(max / 2, 0);
               return [...end, middle, w.top]"""
    at_end, end, middle, top = run(page, "log-window.js", body, {"rows": 10_000_000, "tallest": 1e6})
    assert (at_end, end, top) == (True, 10_000_000, 0)
    assert middle == pytest.approx(5_000_000, rel=0.01)


def test_a_row_is_shown_without_moving_further_than_it_must(page: Page) -> None:
    body = f"{WINDOW} w.show(100); const down = w.top; w.show(99); const same = w.top; w.show(2); return [down, same, w.top]"
    assert run(page, "log-window.js", body, {"rows": 1000, "tallest": 12e6}) == [101 * 20 - 600, 101 * 20 - 600, 40]


# Stages and folds

STAGES = """const s = new m.Stages();
  const mark = (stage, edge, row) => s.add({ stage, edge, at: '2026-11-25T10:00:00Z', detail: '' }, row);
  mark('init', 'begin', 2); mark('init', 'end', 6); mark('planning', 'begin', 7); mark('planning', 'end', 10);"""


def test_folded_stages_leave_their_first_row(page: Page) -> None:
    body = f"""{STAGES} s.sections[0].folded = true;
      return [s.shown(20), Array.from({{ length: s.shown(20) }}, (_, place) => s.rowAt(place, 20))]"""
    shown, rows = run(page, "log-stages.js", body)
    assert shown == 16
    assert rows == [0, 1, 2, *range(7, 20)]


def test_places_and_rows_are_each_others_inverse(page: Page) -> None:
    body = f"""{STAGES} for (const each of s.sections) each.folded = true;
      return Array.from({{ length: s.shown(20) }}, (_, place) => s.placeOf(s.rowAt(place, 20), 20))"""
    assert run(page, "log-stages.js", body) == list(range(13))
    assert run(page, "log-stages.js", f"{STAGES} s.sections[0].folded = true; return s.placeOf(4, 20)") == 2


def test_a_stage_that_is_not_over_is_folded_to_the_end_of_what_there_is(page: Page) -> None:
    body = f"""{STAGES} mark('applying', 'begin', 12); s.sections[2].folded = true;
               return [s.shown(50), s.reveal(49), s.shown(50)]"""
    assert run(page, "log-stages.js", body) == [13, True, 50]


def test_marks_are_known_by_their_whole_line(page: Page) -> None:
    line = "\x1b[2m── iac: stage init end 2026-11-25T10:00:00Z · failed ──\x1b[0m"
    assert run(page, "log-stages.js", "return m.markOf(a)", line) == {
        "stage": "init",
        "edge": "end",
        "at": "2026-11-25T10:00:00Z",
        "detail": "failed",
    }
    assert run(page, "log-stages.js", "return m.markOf(a)", f"x {line}") is None


# Events


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_events_are_read_from_pieces_of_any_size(page: Page, size: int) -> None:
    text = ': hello\n\nid: 12:3\nevent: log\ndata: {"a":\ndata: 1}\n\nevent: end\r\ndata: {}\r\n\r\n'
    body = """const p = new m.EventParser(); const found = [];
              for (let at = 0; at < a[0].length; at += a[1]) found.push(...p.feed(a[0].slice(at, at + a[1])));
              return found"""
    assert run(page, "stream.js", body, [text, size]) == [
        {"name": "log", "data": '{"a":\n1}', "id": "12:3"},
        {"name": "end", "data": "{}", "id": None},
    ]
