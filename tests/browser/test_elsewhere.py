"""The app where others put it: under a path, behind a proxy, and in the frame of a Space's page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, FrameLocator, Page, Route, expect

from tests.support import proxy
from tests.support.app import Served, server_in
from tests.support.ui import pictures, png

Visit = Callable[..., Page]
FILE = {"name": "red.png", "mimeType": "image/png", "buffer": png(pictures("red", 1)[0])}
# The frame that Spaces make, and how their page takes the address of the app into its own.
SPACE = """<!doctype html><title>A Space</title><body style="margin: 0">
<iframe src="{app}{query}" style="border: 0; width: 100%; height: 1600px"
  allow="camera; clipboard-read; clipboard-write; fullscreen"
  sandbox="allow-downloads allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox allow-same-origin
  allow-scripts allow-storage-access-by-user-activation"></iframe>
<script>
  window.told = [];
  addEventListener("message", (event) => {{
    if (event.origin !== "{origin}" || event.data.queryString === undefined) return;
    window.told.push(event.data.queryString);
    history.replaceState(history.state, "", "?" + event.data.queryString);
  }});
</script>"""
ADDRESS = "https://huggingface.co/spaces/someone/vitmsn"


def walks_through(page: Page, place: Page | FrameLocator) -> None:
    """A picture is dropped, tabs are opened, left by Back and Forward, and a result is downloaded."""
    expect(place.locator("#tab-classify .msn-bars").first).to_be_visible()
    place.locator("#picture-classify input[type=file]").set_input_files([FILE])  # type: ignore[list-item]
    expect(place.locator("#picture-classify img")).to_have_attribute("alt", "Your picture, red.png")
    sentence = place.locator("#tab-classify .msn-sentence").first
    expect(sentence).to_be_visible()
    place.get_by_text("Several pictures at once").click()
    place.locator("#tab-classify input[type=file][multiple]").set_input_files([FILE])  # type: ignore[list-item]
    with page.expect_download() as download:
        place.get_by_role("link", name="Download as CSV").click()
    assert Path(download.value.path()).read_text("utf-8-sig").splitlines()[1].startswith("red.png,")
    masking, classify = (place.get_by_role("tab", name=name, exact=True) for name in ("Masking", "Classify"))
    masking.click()
    expect(place.locator("#tab-masking .msn-sentence").first).to_contain_text("of 64 patches left")
    expect(place.locator("#tab-masking .msn-tiles").first).to_be_visible()  # a picture of an address of our own
    page.go_back()
    expect(classify).to_have_attribute("aria-selected", "true")
    page.go_forward()
    expect(masking).to_have_attribute("aria-selected", "true")


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app below the path /demo/vitmsn of another server."""
    folder = tmp_path_factory.mktemp("below")
    with server_in(folder, GRADIO_ROOT_PATH="/demo/vitmsn", VITMSN_PROXY="1", OMP_NUM_THREADS="1") as (app, _):
        with proxy.under("/demo/vitmsn", app.url) as url:
            yield Served(url, app.log)
        assert "Traceback" not in app.said()


def test_the_app_works_below_a_path_behind_a_proxy(visit: Visit, below: Served) -> None:
    page = visit(app=below.url)
    walks_through(page, page)
    assert page.url.startswith(f"{below.url}?") and "tab=masking" in page.url
    loaded = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    assert any("gallery-pictures.webp" in name for name in loaded)
    ours = (below.url, "data:", "blob:")
    assert {name for name in loaded if not name.startswith(ours)} == set()


def test_a_link_below_a_path_opens_what_it_names(visit: Visit, below: Served) -> None:
    page = visit(app=below.url, address="?tab=attention&example=cat")
    expect(page.get_by_role("tab", name="Attention", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#picture-attention img")).to_have_attribute("alt", re.compile("cat", re.IGNORECASE))
    page.reload()
    expect(page.locator("#picture-attention img")).to_have_attribute("alt", re.compile("cat", re.IGNORECASE))


@pytest.fixture
def space(visit: Visit, served: Served, watch: Any) -> Callable[[str], Page]:
    """The Space's page with this query; the app is in its frame."""
    watch.allow("AbortError|Connection errored out")  # Gradio, of requests of the page that is left
    page = visit()
    with suppress(Error):  # older Chromium asks for no permission before a page elsewhere frames one on this machine
        page.context.grant_permissions(["local-network-access"])

    def answer(route: Route) -> None:
        query = route.request.url.partition("?")[2]
        html = SPACE.format(app=served.url, query=f"?{query}" if query else "", origin=served.url.rstrip("/"))
        route.fulfill(body=html, content_type="text/html")

    page.route(f"{ADDRESS}**", answer)

    def open_space(query: str = "") -> Page:
        page.goto(ADDRESS + query)
        return page

    return open_space


def test_the_app_works_in_the_frame_of_a_space(space: Callable[[str], Page]) -> None:
    page = space("")
    walks_through(page, page.frame_locator("iframe"))
    expect(page).to_have_url(re.compile("tab=masking"))  # the address that people copy


def test_a_link_to_a_space_opens_what_it_names_and_follows_the_app(space: Callable[[str], Page]) -> None:
    page = space("?tab=attention&example=cat&__sign=secret")
    frame = page.frame_locator("iframe")
    expect(frame.locator("#picture-attention img")).to_have_attribute("alt", re.compile("cat", re.IGNORECASE))
    frame.get_by_role("tab", name="Masking", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?tab=masking&example=cat"))
    assert all("secret" not in told for told in page.evaluate("window.told"))
