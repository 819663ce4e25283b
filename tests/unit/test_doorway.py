import pytest

from launcher.doorway import once, refusal


def ask(*headers: str, method: str = "POST") -> str:
    return refusal("\r\n".join([f"{method} /v1 HTTP/1.1", *headers, "", ""]).encode(), 8080)


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: 127.0.0.1:8080",),
        ("host: LOCALHOST:8080", "Origin: http://localhost:8080", "Sec-Fetch-Site: same-origin"),
        ("Host: [::1]:8080", "Sec-Fetch-Site: none"),
    ],
)
def test_this_machine_is_let_in(headers: tuple[str, ...]) -> None:
    assert ask(*headers) == ""


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Host: evil.example:8080",),
        ("Host: 127.0.0.1:8080", "Host: evil.example"),
        ("Host: localhost:8080", "Origin: http://evil.example"),
        ("Host: localhost:8080", "Origin: null"),
        ("Host: localhost:8080", "Sec-Fetch-Site: cross-site"),
    ],
)
def test_web_pages_of_others_are_not(headers: tuple[str, ...]) -> None:
    assert "this server" in ask(*headers)


def test_a_link_to_the_page_may_be_followed() -> None:
    headers = ("Host: localhost:8080", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate")
    assert ask(*headers, method="GET") == ""
    assert ask(*headers) != ""


def test_a_connection_carries_one_request() -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n\r\n"
    assert once(head) == b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
