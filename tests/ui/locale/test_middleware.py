"""The language of a request, and the page sent in it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support import async_calls
from vitmsn.ui.locale import COOKIE, current, speaking
from vitmsn.ui.locale.middleware import PageLanguage, of_page, of_request, of_scope, said

GERMAN = {"accept-language": "de,en;q=0.5"}
HTML = b'<!doctype html><html lang="en"><head><title>x</title></head></html>'


@pytest.mark.parametrize(
    ("query", "headers", "language"),
    [
        ("", {}, "en"),
        ("", GERMAN, "de"),
        ("", {**GERMAN, "cookie": f"a=b; {COOKIE}=en"}, "en"),
        ("tab=learn&lang=de", {"cookie": f"{COOKIE}=en"}, "de"),
        ("lang=xx", GERMAN, "de"),
        ("lang=en", GERMAN, "en"),
        ("", {"cookie": f"{COOKIE}=nonsense"}, "en"),
        ("", {"cookie": "=;;\x00"}, "en"),
    ],
)
def test_the_address_comes_first_then_the_cookie_then_the_browser(
    query: str, headers: dict[str, str], language: str
) -> None:
    assert of_page(query, headers) == language


def test_an_open_page_is_answered_in_its_language_and_a_program_in_english() -> None:
    assert of_request(GERMAN) == "en"  # no page asked
    assert of_request({**GERMAN, "referer": "http://here/?tab=learn"}) == "de"
    assert of_request({**GERMAN, "referer": "http://here/?lang=en"}) == "en"
    assert of_request({"referer": "http://here/?lang=de"}) == "de"
    assert of_request({"cookie": f"{COOKIE}=de"}) == "de"
    assert of_request({**GERMAN, "referer": "http://[broken"}) == "en"


def test_the_page_says_its_language_before_all_other_scripts() -> None:
    with speaking("de"):
        page = said(HTML).decode()
    assert '<html lang="de">' in page and 'get: () => "de"' in page
    assert page.index("window.msnWords") < page.index("<title>")
    assert "Kommt dazu" in page
    assert "window.msnWords = {};" in said(HTML).decode()


def test_the_page_is_named_and_shown_elsewhere_as_itself() -> None:
    gradios = (
        b'<meta property="og:title" content="Gradio" /><meta\n\tname="twitter:image"\n\tcontent="https://else.where/a.jpg"\n/>'
        b'<meta name="viewport" content="width=device-width" /><link rel="manifest" href="/manifest.json" />'
    )
    whole = HTML.replace(b"<title>x</title>", gradios)
    for language, words in (("en", "look inside an AI"), ("de", "Blick in eine KI")):
        with speaking(language):
            page = said(whole).decode()
        assert page.count("<title>ViT-MSN: ") == 1 and page.count(words) == 2  # og:title, too
        assert page.count('name="description"') == page.count('"og:description"') == 1
        assert "Gradio" not in page.partition("</script>")[2] and "else.where" not in page and "viewport" in page
        assert '"/manifest.json"' not in page and 'href="data:image/svg+xml,' in page


async def page(scope: Any, receive: Any, send: Any) -> None:
    body = HTML if scope["path"] == "/" else current().encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body[:5], "more_body": True})
    await send({"type": "http.response.body", "body": body[5:]})


async def speaking_app(scope: Any, receive: Any, send: Any) -> None:
    with speaking(of_scope(scope)):
        await PageLanguage(page)(scope, receive, send)


def ask(path: str, **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(speaking_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, headers=headers)

    return async_calls.call(run)


def test_a_choice_in_the_address_is_remembered() -> None:
    answer = ask("/?lang=de")
    assert answer.headers["content-language"] == "de" and 'lang="de"' in answer.text
    assert answer.headers["set-cookie"].startswith(f"{COOKIE}=de; Path=/; Max-Age=")
    assert "SameSite=Lax" in answer.headers["set-cookie"]
    assert "Secure; Partitioned" in ask("/?lang=de", **{"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "set-cookie" not in ask("/").headers


def test_caches_keep_the_languages_apart() -> None:
    answer = ask("/", **GERMAN)
    assert answer.headers["content-language"] == "de"
    assert answer.headers["vary"] == "Cookie, Accept-Language"
    assert len(answer.content) == int(answer.headers["content-length"])


def test_other_addresses_pass_as_they_are() -> None:
    assert ask("/x").text == "en"
    assert ask("/x", referer="http://here/?lang=de").text == "de"
