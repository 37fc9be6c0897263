"""Which proxy leads to a server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from iac.errors import Invalid
from iac.executor.proxying import proxy_for

PROXY = {"HTTPS_PROXY": "http://proxy.example.com:3128"}


@pytest.mark.parametrize(
    ("endpoint", "env", "expected"),
    [
        ("https://iac.example.com", {}, None),
        ("https://iac.example.com", PROXY, ("proxy.example.com", 3128)),
        ("https://iac.example.com", {"https_proxy": "http://small:1", **PROXY}, ("small", 1)),
        ("https://iac.example.com", {"HTTPS_PROXY": "proxy:8080"}, ("proxy", 8080)),
        ("https://iac.example.com", {"ALL_PROXY": "http://all"}, ("all", 80)),
        ("https://iac.example.com", {"HTTP_PROXY": "http://other:1"}, None),
        ("http://iac.example.com", {"HTTP_PROXY": "http://other:1"}, ("other", 1)),
        ("https://iac.example.com", {"HTTPS_PROXY": "https://[::1]:8443"}, ("::1", 8443)),
        ("https://iac.example.com", {"HTTPS_PROXY": " "}, None),
    ],
)
def test_the_variables_name_the_proxy(endpoint: str, env: Mapping[str, str], expected: tuple[str, int] | None) -> None:
    found = proxy_for(endpoint, env)
    assert (None if found is None else (found.host, found.port)) == expected


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("*", "iac.example.com", True),
        ("example.com", "iac.example.com", True),
        (".example.com", "iac.example.com", True),
        ("*.example.com", "iac.example.com", True),
        ("EXAMPLE.com", "iac.Example.COM", True),
        ("ample.com", "iac.example.com", False),
        ("iac.example.com:8443", "iac.example.com", False),
        ("iac.example.com:443", "iac.example.com", True),
        ("a.example.com, b.example.com ,iac.example.com", "iac.example.com", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("fd00::/8", "[fd00::1]", True),
        ("[::1]", "[::1]", True),
        ("", "iac.example.com", False),
        (".", "iac.example.com", False),
    ],
)
def test_exceptions_are_names_addresses_and_networks(exceptions: str, host: str, direct: bool) -> None:
    found = proxy_for(f"https://{host}", {**PROXY, "NO_PROXY": exceptions})
    assert (found is None) == direct


def test_a_user_and_password_become_a_header() -> None:
    found = proxy_for("https://x", {"HTTPS_PROXY": "http://us%40er:p%3Ass@proxy:1"})
    assert found is not None
    assert found.authorization == "Basic dXNAZXI6cDpzcw=="


@pytest.mark.parametrize("text", ["socks5://user:secret@proxy:1", "http://", "http://user:secret@proxy:notaport"])
def test_something_else_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Invalid, match="HTTPS_PROXY") as caught:
        proxy_for("https://x", {"HTTPS_PROXY": text})
    assert "secret" not in caught.value.message
