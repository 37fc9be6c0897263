from __future__ import annotations

import base64
import html
import json
import re
import time
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iac.domain.redaction import REPLACEMENT, Masker, needles
from tests.harness.thoroughness import examples

# Few letters, so that secrets contain, continue and overlap one another all the time.
CRAMPED = st.text("ab*", min_size=4, max_size=9).map(str.encode)


def fed(masker: Masker, data: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [masker.feed(data[start:end]) for start, end in pairwise(edges)]
    return b"".join(parts) + masker.finish()


def reference(forms: frozenset[bytes], data: bytes, stop: int | None = None) -> bytes:
    """Straight from the contract: cover every occurrence, one replacement for those that overlap."""
    out = b""
    covered = 0
    for at in range(len(data) if stop is None else stop):
        ends = [at + len(form) for form in forms if data.startswith(form, at)]
        if ends:
            out += REPLACEMENT if at >= covered else b""
            covered = max(covered, *ends)
        if at >= covered:
            out += data[at : at + 1]
    return out


@settings(max_examples=examples(600), deadline=None)
@given(st.lists(CRAMPED, max_size=5), st.text("ab* ", max_size=60).map(str.encode), st.lists(st.integers(0, 60)))
def test_the_output_is_the_reference_however_the_bytes_are_cut(
    secrets: list[bytes], data: bytes, cuts: list[int]
) -> None:
    assert fed(Masker(secrets), data, cuts) == reference(needles(secrets), data)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.binary(min_size=4, max_size=20), min_size=1, max_size=4),
    st.data(),
)
def test_secrets_of_any_bytes_are_masked_however_the_bytes_are_cut(secrets: list[bytes], data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.one_of(st.sampled_from(secrets), st.binary(max_size=6)), max_size=12))
    log = b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=8))
    assert fed(Masker(secrets), log, cuts) == reference(needles(secrets), log)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(CRAMPED, min_size=1, max_size=4), st.text("ab* ", max_size=40).map(str.encode))
def test_no_more_is_held_back_than_a_beginning_of_a_needle(secrets: list[bytes], data: bytes) -> None:
    forms = needles(secrets)
    suffixes = [data[at:] for at in range(len(data))]
    expected = next((s for s in suffixes if any(len(s) < len(f) and f.startswith(s) for f in forms)), b"")
    masker = Masker(secrets)
    out = masker.feed(data)
    assert masker.settled == (not expected)
    assert out == reference(forms, data, len(data) - len(expected))


def test_every_needle_is_masked_wherever_it_is_cut() -> None:
    secrets = ["correct horse", 'pa"ss<word>', "line one of it\nline two of it\n"]
    for needle in needles(secrets):
        for cut in range(len(needle) + 1):
            assert fed(Masker(secrets), b"[" + needle + b"]", [cut + 1]) == b"[***]"


def test_secrets_that_do_not_touch_are_masked_leftmost_and_longest() -> None:
    masker = Masker(["hunter2", "hunter22", "unter"])
    assert masker.mask(b"hunter22 hunter2! unter") == b"*** ***! ***"


def test_the_end_of_a_secret_does_not_show_because_it_began_another() -> None:
    assert Masker(["password1234", "1234-sesame"]).mask(b"<password1234-sesame>") == b"<***>"


def test_without_secrets_everything_passes_at_once() -> None:
    masker = Masker([])
    data = bytes(range(256))
    assert masker.feed(data) is data
    assert masker.finish() == b""
    assert masker.settled


@pytest.mark.parametrize("secret", ["", "abc", "   ", "  ab\n", "true", "False", "null\n", "\n\n\n\n\n"])
def test_what_would_eat_every_log_is_not_masked(secret: str) -> None:
    assert needles([secret]) == frozenset()


def test_a_finished_masker_starts_anew() -> None:
    masker = Masker(["sesame"])
    assert masker.feed(b"open ses") == b"open "
    assert masker.finish() == b"ses"
    assert masker.feed(b"ame") == b"ame"


def test_a_text_apart_leaves_the_stream_alone() -> None:
    masker = Masker(["sesame"])
    assert masker.feed(b"ses") == b""
    assert masker.mask(b"ame, sesame") == b"ame, ***"
    assert masker.feed(b"ame") + masker.finish() == b"***"


AWKWARD = 'p"a\\ss<w>&rd ${é}%{/+\u2028😀\x1b\x7f end'


def go_json(text: str) -> str:
    escaped = json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028")
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", escaped)


def shown_forms(secret: str) -> dict[str, str]:
    raw = secret.encode()
    hcl = secret.replace("\\", "\\\\").replace('"', '\\"')
    hcl = hcl.replace("\u2028", "\\u2028")
    in_go = hcl.replace("\x1b", "\\x1b").replace("\x7f", "\\x7f")
    in_hcl = hcl.replace("\x1b", "\\u001b").replace("\x7f", "\\u007f")
    return {
        "raw": secret,
        "json": json.dumps(secret, ensure_ascii=False),
        "json ascii": json.dumps(secret),
        "go json": go_json(secret),
        "json in json": json.dumps(json.dumps(secret, ensure_ascii=False), ensure_ascii=False),
        "go json in go json": go_json(go_json(secret)),
        "go quoted": in_go,
        "go quoted, template": in_go.replace("${", "$${").replace("%{", "%%{"),
        "hcl": in_hcl.replace("${", "$${").replace("%{", "%%{"),
        "url": quote(secret, safe=""),
        "url path": quote(secret),
        "url query": quote_plus(secret),
        "base64": base64.b64encode(raw).decode(),
        "base64 url": base64.urlsafe_b64encode(raw).decode(),
    }


@pytest.mark.parametrize("form", list(shown_forms("")))
@pytest.mark.parametrize("secret", [AWKWARD, "correct horse battery staple", "hunter2!"])
def test_every_form_of_a_secret_is_masked(secret: str, form: str) -> None:
    shown = shown_forms(secret)[form].removeprefix('"').removesuffix('"')
    before, after = b"value = [", b"]\n"
    shown = re.sub(r'^\\"|\\"$', "", shown)  # the inner quotes of JSON in JSON are not the secret's
    assert Masker([secret]).mask(before + shown.encode() + after) == before + REPLACEMENT + after


@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "!", "!!", "!!!"])
def test_a_secret_inside_base64_is_masked_at_every_alignment(before: str, after: str) -> None:
    secret = "correct/horse>battery?staple"
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        masked = Masker([secret]).mask(encode(f"{before}{secret}{after}".encode()))
        assert REPLACEMENT in masked
        # At most the characters that mix bits of the secret with bits of its neighbours are left.
        assert len(masked) <= 4 * (len(before) // 3 + len(after) // 3 + 2) + len(REPLACEMENT) + 4


def test_the_lines_of_a_key_are_masked_inside_an_indented_heredoc() -> None:
    key = "-----BEGIN KEY-----\r\nMIIEvQIBADANBgkq\r\n  hkiG9w0BAQEFAASC\r\nshort\r\n-----END KEY-----\r\n"
    shown = "    <<-EOT\n        MIIEvQIBADANBgkq\n        hkiG9w0BAQEFAASC\n        short\n    EOT\n"
    assert Masker([key]).mask(shown.encode()).decode() == shown.replace("MIIEvQIBADANBgkq", "***").replace(
        "hkiG9w0BAQEFAASC", "***"
    )


def test_a_secret_read_from_a_file_is_masked_without_its_newline() -> None:
    assert Masker(["sesame\n"]).mask(b"key=sesame;") == b"key=***;"


def test_a_secret_that_is_no_text_is_masked_raw_and_in_base64() -> None:
    secret = b"\xff\xfe\x00\x80binary key"
    masker = Masker([secret])
    assert masker.mask(b"[" + secret + b"]") == b"[***]"
    assert masker.mask(base64.b64encode(secret)) == REPLACEMENT


def test_html_entities_are_not_a_form_that_terraform_prints() -> None:
    assert Masker(["a<b>c"]).mask(html.escape("a<b>c").encode()) == b"a&lt;b&gt;c"


@pytest.mark.parametrize(
    ("name", "secrets", "unit"),
    [
        ("one line without an end", ["sesame-1234"], b"x"),
        ("beginnings only", ["sesame-1234"], b"sesame-123"),
        ("a secret in every line", ["sesame-1234"], b"the password is sesame-1234 as ever and nothing else\n"),
        ("beginnings of a long secret", ["-----BEGIN KEY-----\n" + "k" * 4000], b"-"),
    ],
)
def test_fifty_megabytes_at_once_take_linear_time(name: str, secrets: list[str], unit: bytes) -> None:
    def spent(size: int) -> float:
        data = unit * (size // len(unit))
        masker = Masker(secrets)
        before = time.process_time()
        out = masker.feed(data) + masker.finish()
        assert len(out) <= len(data)
        return time.process_time() - before

    small = max(spent(2_500_000), 0.02)
    assert spent(50_000_000) < 20 * small * 4, name


def test_a_long_secret_that_repeats_itself_does_not_make_small_feeds_slow() -> None:
    masker = Masker(["ab" * 2000 + "!"])
    before = time.process_time()
    out = b"".join(masker.feed(b"abab") for _ in range(20_000)) + masker.finish()
    assert out == b"abab" * 20_000
    assert time.process_time() - before < 10
