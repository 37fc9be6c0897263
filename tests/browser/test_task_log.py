"""The log on a task's page: long ones, strange ones, links to lines, search, folds, keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from threading import Event
from time import monotonic

import pytest
from playwright.sync_api import Browser, Locator, expect

from iac.domain.rendering import stage_marker
from tests.browser.people import PATIENCE, PHONE, Person, Site
from tests.browser.scenery import Scenery
from tests.browser.task_scenery import aside, with_log, workshop
from tests.harness.server import TOKEN

MILLION = 1_000_000
ERROR = "\x1b[31m│\x1b[0m \x1b[1m\x1b[31mError: \x1b[0mneedle-at-the-end\n".encode()
NASTY = (
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"> &amp; <b>bold?</b>\n"
    "bidi \u202egpj.exe\u202c nul\x00 bell\x07 clear\x1b[2J \x1b]8;;http://evil.example\x07link\n"
    "\x1b[1;31mred\x1b[0m \x1b[38;5;208morange\x1b[0m\n"
).encode() + b"bad \xff\xfe utf8\n"
STAGED = b"".join(
    stage_marker(stage, "begin", f"2026-11-25T10:00:{n}0Z")
    + b"".join(b"%s %d\n" % (stage.encode(), row) for row in range(400))
    + stage_marker(stage, "end", f"2026-11-25T10:00:{n}5Z")
    for n, stage in enumerate(("init", "planning"), 1)
)
SETTLED = """v => new Promise((done) => {
  const still = () => v.viewer.begun && !v.viewer.view.pending && !v.querySelector('.log-coming');
  const look = () => still() && v.querySelector('.log-row') ? done() : requestAnimationFrame(look);
  requestAnimationFrame(look);
})"""


@pytest.fixture(scope="module")
def site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with workshop(tmp_path_factory.mktemp("site"), postgres) as server:
        yield Site(server, Scenery({}, {}))


@pytest.fixture(scope="module")
def reader(chromium: Browser, site: Site) -> Iterator[Person]:
    with Person.arrives(chromium, site) as someone:
        someone.signs_in(TOKEN)
        yield someone


@pytest.fixture(scope="module")
def million(chromium: Browser, site: Site) -> int:
    lines = b"".join(b"\x1b[0m\x1b[1mterraform_data.a[%d]: Creating...\x1b[0m and more\n" % n for n in range(MILLION))
    return aside(with_log, site.server, lines + ERROR)


@pytest.fixture(scope="module")
def staged(chromium: Browser, site: Site) -> int:
    return aside(with_log, site.server, STAGED)


def opened(reader: Person, task: int, hash_: str = "") -> Locator:
    """The log, with its rows."""
    reader.page.goto("about:blank")
    reader.page.goto(f"/tasks/{task}{hash_}")
    log = reader.page.locator("#log")
    settled(log)
    return log


def settled(log: Locator) -> None:
    expect(log.locator(".log-row").first).to_be_visible()
    log.evaluate(SETTLED)


def numbers(log: Locator) -> list[int]:
    """The numbers of lines that are in the document."""
    return [int(text) for text in log.locator("a.log-number").all_inner_texts()]


def shows(log: Locator, line: int) -> bool:
    """Whether all of this line's number is inside of the frame."""
    script = """(frame, line) => {
      const row = [...frame.querySelectorAll('a.log-number')].find((a) => a.textContent == line);
      const [a, b] = [row?.getBoundingClientRect(), frame.getBoundingClientRect()];
      return Boolean(a && a.top >= b.top - 1 && a.top + 20 <= b.bottom + 1); }"""
    return bool(log.locator(".log-frame").evaluate(script, line))


def _is_beyond(log: Locator, line: int) -> bool:
    return numbers(log)[0] > line


def until(true: Callable[[], bool]) -> None:
    """Waits for something that no locator can tell."""
    deadline = monotonic() + PATIENCE / 1000
    while not true():
        assert monotonic() < deadline
        Event().wait(0.02)


def timed(log: Locator, does: str) -> float:
    """Milliseconds until what was asked of the viewer is shown."""
    script = f"""async (v) => {{ const at = performance.now(); await ({does})(v.viewer); await ({SETTLED})(v);
                   return performance.now() - at; }}"""
    return float(log.evaluate(script))


# Long ones


@pytest.mark.slow_browser
def test_a_million_lines_are_scrolled_searched_and_jumped_through(reader: Person, million: int) -> None:
    log = opened(reader, million)
    expect(log).to_contain_text("1,000,001 lines")
    assert numbers(log)[-1] == MILLION + 1
    spent = {"top": timed(log, "(v) => v.toTop()")}
    assert numbers(log)[0] == 1
    spent["scroll bar"] = timed(log, "(v) => { v.frame.scrollTop = v.frame.scrollHeight / 2; }")
    assert 490_000 < numbers(log)[0] < 510_000
    spent["line"] = timed(log, "(v) => { history.replaceState(null, '', '#L765432'); return v.goToHash(); }")
    expect(log.locator(".log-marked")).to_contain_text("terraform_data.a[765431]")
    spent["first error"] = timed(log, "(v) => v.toError()")
    expect(log.locator(".log-marked")).to_contain_text("needle-at-the-end")
    spent["top again"] = timed(log, "(v) => v.toTop()")
    spent["search, near"] = timed(log, "(v) => v.search('a[1234]')")
    expect(log.locator(".log-current mark")).to_have_text("a[1234]")
    spent["search, all of it"] = timed(log, "(v) => v.search('NEEDLE-AT')")
    expect(log.locator(".log-current mark")).to_have_text("needle-at")
    expect(log.locator("#log-found")).to_have_text("1 of 1")
    assert log.locator(".log-row").count() < 100
    sys.stdout.write(f"{ {name: round(value) for name, value in spent.items()} }\n")
    assert reader.complaints == []


@pytest.mark.slow_browser
def test_each_line_can_be_reached_although_no_element_can_be_so_tall(reader: Person, million: int) -> None:
    log = opened(reader, million, "#L500000")
    frame = log.locator(".log-frame")
    frame.hover()
    seen = numbers(log)
    for _ in range(3):
        reader.page.mouse.wheel(0, 400)
        until(partial(_is_beyond, log, seen[0]))
        settled(log)
        now = numbers(log)
        assert now[0] <= seen[-1], "no line was passed over"
        seen = now


def test_a_line_of_fifty_megabytes_is_rows_of_one_line(reader: Person, site: Site) -> None:
    giant = b"begin\n" + b"x" * 25_000_000 + b"NEEDLE" + b"y" * 25_000_000 + b"\nend\n"
    log = opened(reader, aside(with_log, site.server, giant))
    expect(log).to_contain_text("3 lines")
    assert numbers(log)[-1] == 3
    spent = {"scroll bar": timed(log, "(v) => { v.frame.scrollTop = v.frame.scrollHeight / 2; }")}
    assert numbers(log) == []
    spent["line"] = timed(log, "(v) => { history.replaceState(null, '', '#L2'); return v.goToHash(); }")
    assert numbers(log) == [1, 2]
    spent["search"] = timed(log, "(v) => v.search('needle')")
    expect(log.locator(".log-current mark")).to_have_text("NEEDLE")
    sys.stdout.write(f"{ {name: round(value) for name, value in spent.items()} }\n")


@pytest.mark.slow_browser
def test_the_page_weighs_little_however_long_the_log_is(reader: Person, million: int) -> None:
    answer = reader.page.request.get(f"/tasks/{million}")
    assert len(answer.body()) < 60_000


# Strange ones


def test_what_a_log_says_is_shown_and_never_done(reader: Person, site: Site) -> None:
    log = opened(reader, aside(with_log, site.server, NASTY))
    rows = log.locator(".log-text").all_inner_texts()
    assert rows[0] == NASTY.decode("utf-8", "replace").splitlines()[0]
    assert rows[1] == "bidi <U+202E>gpj.exe<U+202C> nul^@ bell^G clear^[[2J ^[]8;;http://evil.example^Glink"
    assert rows[3] == "bad \ufffd\ufffd utf8"
    assert log.locator(".log-text :is(script, img, a, b)").count() == 0
    assert "owned" not in reader.page.title()
    expect(log.locator(".ansi-fg-1.ansi-bold")).to_have_text("red")
    assert reader.complaints == []


def test_what_is_copied_is_text_without_numbers(reader: Person, site: Site) -> None:
    log = opened(reader, aside(with_log, site.server, b"one\n\x1b[1mtwo\x1b[0m\nthree\n"))
    copied = log.evaluate(
        """(v) => { const range = document.createRange(); range.selectNodeContents(v.querySelector('.log-rows'));
                    getSelection().removeAllRanges(); getSelection().addRange(range); return getSelection().toString(); }"""
    )
    assert copied.split() == ["one", "two", "three"]


@pytest.mark.slow_browser
def test_without_a_script_there_is_the_end_of_the_log_and_a_link_to_all_of_it(
    chromium: Browser, site: Site, million: int
) -> None:
    nasty = aside(with_log, site.server, NASTY)
    with Person.arrives(chromium, site, java_script_enabled=False) as someone:
        someone.signs_in(TOKEN)
        someone.page.goto(f"/tasks/{million}")
        plain = someone.page.locator(".log-plain")
        expect(plain).to_contain_text("Error: needle-at-the-end")
        assert "\x1b" not in plain.inner_text()
        link = someone.page.get_by_role("link", name="all of it")
        answer = someone.page.request.get(link.get_attribute("href") or "")
        assert answer.headers["content-disposition"].startswith("attachment")
        expect(someone.page.get_by_role("button", name="First error")).to_be_hidden()
        someone.page.goto(f"/tasks/{nasty}")
        expect(plain).to_contain_text("bidi <U+202E>gpj.exe")
        expect(plain).to_contain_text("<script>")


# Links to lines


def test_a_click_on_a_number_is_a_link_and_one_with_shift_a_range(reader: Person, staged: int) -> None:
    log = opened(reader, staged, "#L30")
    expect(log.locator(".log-marked a")).to_have_text("30")
    log.get_by_role("link", name="Line 25", exact=True).click()
    expect(reader.page).to_have_url(re.compile("#L25$"))
    log.get_by_role("link", name="Line 28", exact=True).click(modifiers=["Shift"])
    expect(reader.page).to_have_url(re.compile("#L25-L28$"))
    expect(log.locator(".log-marked")).to_have_count(4)
    log.get_by_role("button", name="Copy 4 lines").click()
    reader.page.reload()
    settled(log)
    expect(log.locator(".log-marked")).to_have_count(4)


def test_a_link_to_a_line_that_does_not_exist_says_so(reader: Person, staged: int) -> None:
    log = opened(reader, staged, "#L99999")
    expect(log.locator("[data-log-says]")).to_have_text("There is no line 99999.")


def test_a_link_into_a_folded_stage_unfolds_it(reader: Person, staged: int) -> None:
    log = opened(reader, staged, "#L2")
    log.get_by_role("button", name="terraform init").click()
    reader.page.evaluate("location.hash = '#L200'")
    expect(log.locator(".log-marked a")).to_have_text("200")


# Folds


def test_stages_are_folded_one_by_one_and_all_at_once(reader: Person, staged: int) -> None:
    log = opened(reader, staged)
    reader.page.keyboard.press("g")
    stage = log.get_by_role("button", name="terraform init")
    expect(stage).to_have_attribute("aria-expanded", "true")
    expect(stage).to_contain_text("5.0 s")
    stage.click()
    expect(stage).to_have_attribute("aria-expanded", "false")
    expect(stage).to_be_focused()
    settled(log)
    assert numbers(log)[:2] == [1, 403]
    log.get_by_role("button", name="Fold all stages").click()
    settled(log)
    assert numbers(log)[1] == 2, "what was folded is unfolded first"
    log.get_by_role("button", name="Fold all stages").click()
    settled(log)
    assert numbers(log) == [1, 403]


# Search and keys


def test_a_search_by_keys_alone(reader: Person, staged: int) -> None:
    log = opened(reader, staged)
    reader.page.keyboard.press("f")
    expect(log.get_by_role("searchbox")).to_be_focused()
    reader.page.keyboard.type("PLANNING 39")
    expect(log.locator("#log-found")).to_have_text("1 of 11")
    reader.page.keyboard.press("Enter")
    expect(log.locator("#log-found")).to_have_text("2 of 11")
    reader.page.keyboard.press("Shift+Enter")
    expect(log.locator("#log-found")).to_have_text("1 of 11")
    reader.page.keyboard.press("Escape")
    expect(log.get_by_role("searchbox")).to_have_value("")
    expect(log.locator("mark")).to_have_count(0)
    expect(log.locator(".log-frame")).to_be_focused()


def test_keys_move_through_the_log(reader: Person, staged: int) -> None:
    log = opened(reader, staged)
    for key, first in (("g", True), ("G", False), ("Home", True), ("End", False)):
        log.locator(".log-frame").focus()
        reader.page.keyboard.press(key)
        settled(log)
        assert (numbers(log)[0] == 1) is first, key
        assert (numbers(log)[-1] == 804) is not first, key
    reader.page.keyboard.press("g")
    reader.page.keyboard.press("ArrowDown")
    until(lambda: log.locator(".log-frame").evaluate("(f) => f.scrollTop") > 0)


def test_nothing_is_found(reader: Person, staged: int) -> None:
    log = opened(reader, staged)
    log.get_by_role("searchbox").fill("nothing like this")
    expect(log.locator("#log-found")).to_have_text("Not found")
    expect(log.get_by_role("button", name="Next match")).to_be_disabled()


def test_a_failed_task_shows_its_first_error_first(reader: Person, site: Site) -> None:
    lines = b"".join(b"line %d\n" % n for n in range(3000))
    log = opened(reader, aside(with_log, site.server, lines + ERROR + lines, "failed"))
    expect(log.get_by_text("needle-at-the-end")).to_be_in_viewport()
    expect(log.get_by_role("button", name="First error")).to_be_visible()


def test_long_lines_are_wrapped_on_a_phone_and_all_of_them_can_be_read(
    chromium: Browser, site: Site, staged: int
) -> None:
    wide = aside(with_log, site.server, b"".join(b"%03d " % n + b"word " * 60 + b"\n" for n in range(60)))
    with Person.arrives(chromium, site, size=PHONE) as someone:
        someone.signs_in(TOKEN)
        log = opened(someone, wide)
        frame = log.locator(".log-frame")
        assert frame.evaluate("(f) => f.scrollWidth - f.clientWidth") <= 1
        assert someone.sideways() == 0
        until(lambda: shows(log, 60))
        frame.evaluate("(f) => { f.scrollTop = 0; }")
        until(lambda: shows(log, 1))


def test_a_long_line_is_scrolled_to_and_widens_nothing_but_its_frame(reader: Person, site: Site) -> None:
    log = opened(reader, aside(with_log, site.server, b"short\n" + b"a long line " * 80 + b"the end\n"))
    frame = log.locator(".log-frame")
    assert frame.evaluate("(f) => f.scrollWidth > f.clientWidth")
    edges = (
        "(l) => [l.getBoundingClientRect().right, document.querySelector('.task-side').getBoundingClientRect().left]"
    )
    right, left = log.evaluate(edges)
    assert right < left
    frame.evaluate("(f) => { f.scrollLeft = f.scrollWidth; }")
    assert shows(log, 2), "the number of a line stays in sight"
    log.get_by_role("button", name="Wrap long lines").click()
    settled(log)
    until(lambda: frame.evaluate("(f) => f.scrollWidth - f.clientWidth") <= 1)


def test_a_log_that_is_gone_says_so(reader: Person, site: Site) -> None:
    task = aside(with_log, site.server, b"old\n")
    site.sql("UPDATE log_stream SET expired_at = now() WHERE task_id = $1", task)
    reader.forgives("410 for GET")
    reader.forgives("410 for GET")
    reader.page.goto(f"/tasks/{task}")
    expect(reader.page.locator("#log")).to_contain_text("not kept any more")
