"""A real browser on the real app: every page is watched, and any error in it fails the test.

    def test_something(page):                  # desktop; `phone` has 390 px and touch, `visit(dark=True)` any other
        page.get_by_role("tab", name="Masking").click()
        expect(page.get_by_text("patches")).to_be_visible()

Wait on conditions (`expect`), never on sleeps. Pictures of failed tests land in tests/browser/screenshots/.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from tests.browser.chromium import find
from tests.support.app import Served

SCREENSHOTS = Path(__file__).with_name("screenshots")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    "--use-fake-device-for-media-stream",  # a camera that shows a clock, for visitors with `camera=True`
)
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
PATIENCE = 60_000  # milliseconds for one condition; generous, since a busy machine is slow


@dataclass
class Watch:
    """Errors of a page. A test that expects one names it: `watch.allow(r"413")`."""

    complaints: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        self.allowed.append(pattern)

    def left(self) -> list[str]:
        return [said for said in self.complaints if not any(re.search(pattern, said) for pattern in self.allowed)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find()
    if path is None:
        reason = "no Chromium on this machine; `make test` installs one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def visit(
    request: pytest.FixtureRequest, browser: Browser, served: Served, watch: Watch
) -> Iterator[Callable[..., Page]]:
    """One more visitor: `visit(width=1280, height=900, touch=False, dark=False, address="", camera=False, app="")`;
    `app` is the address of another app than the shared one."""
    pages: list[Page] = []
    logged = len(served.said())

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error":
            watch.complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def refuse(route: Route) -> None:
        watch.complaints.append(f"asked for {route.request.url}, which is not on this machine")
        route.abort()

    def open_page(
        width: int = 1280,
        height: int = 900,
        touch: bool = False,
        dark: bool = False,
        address: str = "",
        camera: bool = False,
        app: str = "",
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            has_touch=touch,
            is_mobile=touch,
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
            permissions=["camera"] if camera else [],
        )
        context.set_default_timeout(PATIENCE)
        context.route(lambda url: urlsplit(url).hostname not in LOOPBACK, refuse)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: watch.complaints.append(f"page: {error}"))
        pages.append(page)
        page.goto((app or served.url) + address)
        expect(page.get_by_role("tab").first).to_be_visible()
        page.wait_for_function("window.msnTab")  # loaded: what is chosen before, the link's settings may undo
        return page

    yield open_page

    complaints = watch.left()
    trouble = served.said()[logged:]
    if "Traceback (most recent call last)" in trouble:
        complaints.append(f"the server's log:\n{trouble}")
    if complaints or request.node.stash.get(FAILED, True):
        SCREENSHOTS.mkdir(exist_ok=True)
        name = re.sub(r"\W+", "-", request.node.name).strip("-")
        for number, page in enumerate(pages):
            page.screenshot(path=SCREENSHOTS / f"{name}-{number}.png", full_page=True)
        (SCREENSHOTS / f"{name}.log").write_text("\n".join([*watch.complaints, trouble]), encoding="utf-8")
    for page in pages:
        page.context.close()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def page(visit: Callable[..., Page]) -> Page:
    """The app on a desktop: 1280 x 900."""
    return visit()


@pytest.fixture
def phone(visit: Callable[..., Page]) -> Page:
    """The app on a phone: 390 x 844, touch."""
    return visit(width=390, height=844, touch=True)
