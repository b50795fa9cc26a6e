"""A model of the Hub that is chosen in the menu: its download is seen, stopped, cut, and goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support import hub as loopback
from tests.support import models
from tests.support.app import Served, server_in
from tests.support.hub import LoopbackHub

Visit = Callable[..., Page]
SMALL = "facebook/vit-msn-small"
CONFIG = models.small(hidden_size=384, intermediate_size=1536, num_hidden_layers=4)  # 29 MB, three parts of 10 MiB


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    folder = models.write(tmp_path_factory.mktemp("models") / "small", CONFIG)
    with loopback.serve() as hub:
        hub.name = SMALL
        hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        yield hub


@pytest.fixture(scope="module")
def connected(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app, for which `hub` is the Hub."""
    folder = tmp_path_factory.mktemp("connected")
    more = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    with server_in(folder, **more) as (app, _):
        yield app
        assert "Traceback" not in app.said()


def menu(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Model", exact=True)


def choose(page: Page, words: str) -> None:
    menu(page).click()
    page.get_by_role("option", name=words).click()


def test_a_download_is_seen_cut_stopped_and_goes_on(visit: Visit, connected: Served, hub: LoopbackHub) -> None:
    page = visit(app=connected.url)
    expect(page.locator("#tab-classify .msn-bars").first).to_be_visible()
    hub.cut_after = 22_000_000
    choose(page, "ViT-S/16")
    refused = page.get_by_text("try again, which goes on where it stopped")
    expect(refused).to_contain_text(f"{SMALL} could not be downloaded")
    expect(refused).to_contain_text("The model stays vit-msn-tiny-8-64.")
    expect(menu(page)).to_have_value("tiny/8 · 64 px · embedded")

    hub.cut_after, hub.stalls = None, 1000
    choose(page, "ViT-S/16")
    far = page.locator(".progress-level-inner", has_text="Downloading")
    said = f"Downloading {SMALL}, going on at 21 MB; choose another model to stop. 21 of 29 MB"
    expect(far).to_contain_text(said)
    page.get_by_role("tab", name="Masking", exact=True).click()  # the page goes on with its model meanwhile
    expect(page.locator("#tab-masking .msn-sentence").first).to_contain_text("of 64 patches left")
    expect(far).to_be_visible()
    choose(page, "random weights")
    expect(far).to_be_hidden()
    expect(page.locator(".msn-status")).to_contain_text("random weights")

    hub.goes_on.set()
    hub.stalls, hub.asked = None, []
    choose(page, "ViT-S/16")
    expect(page.locator(".msn-status")).to_contain_text(SMALL)
    expect(menu(page)).to_have_value("ViT-S/16 · 224 px · 88 MB from the Hub · no classifier · license unclear")
    assert all(wanted is not None for _, wanted, _ in hub.asked)  # never from the first byte again


def test_a_page_whose_link_names_a_model_of_the_hub_opens_at_once(visit: Visit, connected: Served) -> None:
    page = visit(app=connected.url, address="?model=facebook/vit-msn-base&example=cat")
    expect(page.locator("#tab-classify .msn-bars").first).to_be_visible()
    missing = page.get_by_text("The hub shows no model 'facebook/vit-msn-base'")
    expect(missing).to_contain_text("The model stays vit-msn-tiny-8-64.")
