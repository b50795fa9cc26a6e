"""docs/browser: a model made here, converted, and run in a real browser; the answer is Python's."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.support import models
from tests.support.app import ROOT
from vitmsn import onnx_export
from vitmsn.encoder import Encoder
from vitmsn.fewshot import RidgeClassifier
from vitmsn.image import ViTMSNImageProcessor

RUNTIME = ROOT / "node_modules" / "onnxruntime-web" / "dist"
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass


def picture(seed: int, light: bool) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 100, (90, 120, 3), dtype=np.uint8) + np.uint8(150 * light)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    config = models.small(image_size=32, patch_size=8)
    return models.read(models.write(tmp_path_factory.mktemp("models") / "small", config))


@pytest.fixture(scope="module")
def head(encoder: Encoder) -> RidgeClassifier:
    pictures = [picture(seed, bool(seed % 2)) for seed in range(8)]
    return RidgeClassifier().fit(encoder.embed(pictures), ["night", "day"] * 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, head: RidgeClassifier) -> Path:
    if not all((RUNTIME / name).is_file() for name in FILES):
        reason = "onnxruntime-web is not here; `npm ci` installs it"
        if os.environ.get("CI") and shutil.which("npm"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("page") / "browser"
    shutil.copytree(ROOT / "docs" / "browser", folder)
    (folder / "ort").mkdir()
    for name in FILES:
        shutil.copy(RUNTIME / name, folder / "ort")
    onnx_export.write(folder / "model.onnx", encoder, head=head, sure_from=0.6)
    return folder


@pytest.fixture
def site(folder: Path, browser: Browser) -> Iterator[Page]:
    """The page, served from this machine; an error in its console fails the test."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        context = browser.new_context(viewport={"width": 390, "height": 844})
        page = context.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        yield page
        context.close()
        server.shutdown()
    assert not wrong


def test_a_picture_is_classified_in_the_browser_as_in_python(
    site: Page, encoder: Encoder, head: RidgeClassifier, tmp_path: Path
) -> None:
    expect(site.get_by_role("button", name="Choose a picture")).to_be_enabled()
    for seed, light in ((20, True), (21, False)):
        file = tmp_path / f"{seed}.png"
        picture(seed, light).save(file)
        site.locator("#file").set_input_files(file)
        [shares] = head.predict_proba(encoder.embed([file]))
        best = int(shares.argmax())
        expect(site.get_by_role("heading", name=str(head.classes_[best]), exact=True)).to_be_visible()
        expect(site.locator("#list li").first).to_have_text(f"{head.classes_[best]}{round(100 * shares[best])} %")
        value = float(site.locator("#list progress").first.evaluate("bar => bar.value"))
        assert value == pytest.approx(shares[best], abs=2e-4)
    assert site.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_is_no_picture_is_named(site: Page, tmp_path: Path) -> None:
    expect(site.get_by_role("button", name="Choose a picture")).to_be_enabled()
    (tmp_path / "notes.png").write_text("no picture")
    site.locator("#file").set_input_files(tmp_path / "notes.png")
    expect(site.get_by_role("status")).to_have_text(
        "notes.png is not a picture that this browser can read; choose a JPEG, PNG or WebP."
    )


@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"])
def test_the_script_prepares_pictures_as_python_does(site: Page, resample: str) -> None:
    for size, crop, shape in ((16, None, (30, 50)), ({"shortest_edge": 24}, 16, (45, 31)), (40, None, (17, 23))):
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        processor = ViTMSNImageProcessor(size, crop, resample)
        expected = processor([pixels], return_tensors="np")["pixel_values"][0]
        found = site.evaluate(
            """async ([pixels, width, height, steps]) => {
                const { pixelValues } = await import("./picture.js");
                return Array.from(pixelValues(Uint8ClampedArray.from(pixels), width, height, steps));
            }""",
            [pixels.ravel().tolist(), shape[1], shape[0], processor.to_dict()],
        )
        np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=1e-5)
