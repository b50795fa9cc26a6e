"""The language of each request, and the page sent in it.

The page is built in every language when the server starts (`blocks.Page.offer`). A visitor gets the one that the
address asks for (`?lang=de`), else the one chosen before (a cookie), else the browser's first. What the page asks for
later is answered in the same language: its requests bring the address along as their Referer. A client that is no
browser brings nothing of this and gets English.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from markupsafe import Markup
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitmsn.ui.locale import COOKIE, ENGLISH, LANGUAGES, PARAMETER, current, later, preferred, scripts, tr

PAGE = "/"
REMEMBERED = 365 * 24 * 3600  # seconds for which a browser keeps the choice
WORDS = Path(__file__).with_name("words.js").read_text(encoding="utf-8")

TITLE = later("ViT-MSN: look inside an AI that learned to see from half-hidden pictures")
DESCRIPTION = later("Drop a picture: see what the model says, where it looks, and how little of it it needs.")
GRADIOS = re.compile(rb"""<meta\s+(?:property="og:|name="twitter:)[^>]*>""")
PREVIEW = Markup(
    '<meta name="description" content="{1}"><meta property="og:type" content="website">'
    '<meta property="og:title" content="{0}"><meta property="og:description" content="{1}">'
    '<link rel="icon" type="image/svg+xml" href="{2}">'
)
# sixteen patches, ten of them hidden; inside the page, so that it is there below a path, too
ICON = "data:image/svg+xml," + quote(
    Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        '<rect width="32" height="32" rx="7" fill="#4f46e5"/>'
        '<path fill="#fff" d="M5 5h5v5H5zM16 5h5v5h-5zM10 10h6v6h-6zM21 16h6v5h-6zM5 21h5v6H5zM16 21h5v6h-5z"/></svg>'
    )
)


def of_page(query: str, headers: Mapping[str, str]) -> str:
    """The language for the page at an address with this query."""
    return _in(query) or _chosen(headers) or preferred(headers.get("accept-language", ""))


def of_request(headers: Mapping[str, str]) -> str:
    """The language for what an open page asks for; English for a client that is no page."""
    came_from = headers.get("referer", "")
    if not came_from:
        return _chosen(headers) or ENGLISH
    try:
        return of_page(urlsplit(came_from).query, headers)
    except ValueError:
        return ENGLISH


def of_scope(scope: Scope) -> str:
    """The same for a request as it arrives."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    if scope["path"].removeprefix(scope.get("root_path", "")) == PAGE:
        return of_page(scope.get("query_string", b"").decode("latin-1"), headers)
    return of_request(headers)


def _in(query: str) -> str:
    name = parse_qs(query[:2000]).get(PARAMETER, [""])[-1]
    return name if name in LANGUAGES else ""


def _chosen(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")[:4000]).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None and found.value in LANGUAGES else ""


class PageLanguage:
    """Sends the page with its language and the texts of its scripts, and remembers a language that was chosen."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = scope["type"] == "http" and scope["method"] == "GET"
        if not page or scope["path"].removeprefix(scope.get("root_path", "")) != PAGE:
            await self.app(scope, receive, send)
            return
        begun: Message = {}
        body = b""

        async def whole(message: Message) -> None:
            nonlocal begun, body
            if message["type"] == "http.response.start":
                begun = message
                return
            body += message.get("body", b"")
            if message.get("more_body", False):
                return
            spoken = said(body)
            kept = [pair for pair in begun["headers"] if pair[0].lower() != b"content-length"]
            more = [
                (b"content-length", str(len(spoken)).encode()),
                (b"content-language", current().encode()),
                (b"vary", b"Cookie, Accept-Language"),
            ]
            if name := _in(scope.get("query_string", b"").decode("latin-1")):
                more.append((b"set-cookie", _cookie(name, scope).encode()))
            await send({**begun, "headers": [*kept, *more]})
            await send({"type": "http.response.body", "body": spoken})

        await self.app(scope, receive, whole)


def said(page: bytes) -> bytes:
    """Gradio's page in the current language: its `lang`, what a link to it shows elsewhere, its icon, and a script
    before all others.

    Gradio's own words follow `navigator.language`, so the page's language stands there too. Its head names Gradio, a
    picture of Gradio's, and files from the root of the server, where below a path another one has its own.
    """
    words = json.dumps(scripts(), ensure_ascii=False).replace("</", "<\\/")
    language = f'Object.defineProperty(navigator, "language", {{ get: () => "{current()}" }});'
    script = Markup("<script>{}</script>").format(Markup(f"window.msnWords = {words};\n{WORDS}{language}"))
    about = (Markup("<title>{0}</title>") + PREVIEW).format(tr(TITLE), tr(DESCRIPTION), ICON)
    spoken = page.replace(b'lang="en"', f'lang="{current()}"'.encode(), 1)
    spoken = GRADIOS.sub(b"", spoken).replace(b'href="/manifest.json"', b'href="manifest.json"', 1)
    return spoken.replace(b"<head>", b"<head>" + (script + about).encode(), 1)


def _cookie(language: str, scope: Scope) -> str:
    """Spaces show the page inside another one, where a browser keeps a cookie only with these marks."""
    headers = {name.lower(): value for name, value in scope["headers"]}
    safe = b"https" in (scope.get("scheme", "").encode(), headers.get(b"x-forwarded-proto"))
    marks = "SameSite=None; Secure; Partitioned" if safe else "SameSite=Lax"
    return f"{COOKIE}={language}; Path=/; Max-Age={REMEMBERED}; {marks}"
