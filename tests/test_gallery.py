"""Galleries: examples and classes, and what is kept of a picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.support.galleries import Fake, gallery, pictures, png
from tests.support.zips import zipped
from vitmsn import limits
from vitmsn.archive import Entry, read_zip
from vitmsn.errors import GalleryError
from vitmsn.fewshot import CentroidClassifier
from vitmsn.gallery import Gallery, raw_pixels
from vitmsn.image import decode


def test_examples_keep_their_order_ids_and_labels() -> None:
    made = gallery(10, 11, 12)
    assert (
        len(made) == 3 and made.classes == ["even", "odd"] and made.counts == {"even": 2, "odd": 1} and made.shots == 1
    )
    assert [example.id for example in made.examples] == ["e1", "e2", "e3"]
    assert made.X.shape == (3, 16) and made.X.dtype == np.float32 and made.y.tolist() == ["even", "odd", "even"]
    made.enable(["e1"], False)
    assert made.y.tolist() == ["odd", "even"] and made["e1"].enabled is False and len(made) == 3
    made.remove(["e2"])
    added = made.add("odd", pictures(13), Fake().embed(pictures(13)))
    assert added.ids == ("e4",) and made.classes == ["even", "odd"]
    made.add_class("empty")
    assert made.counts == {"even": 1, "odd": 1, "empty": 0}
    assert Gallery(Fake()).X.shape == (0, 0) and Gallery(Fake()).y.shape == (0,) and Gallery(Fake()).shots == 0


def test_only_a_reencoded_thumbnail_is_kept() -> None:
    noise = np.random.default_rng(0).integers(256, size=(900, 1200, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = image.getexif()
    exif[0x010E] = "a secret place"
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif)
    made = Gallery(Fake())
    picture = decode(out.getvalue(), name="a\u202eb.jpg")
    made.add("noise", [picture], Fake().embed([picture]))
    example = made.examples[0]
    assert example.picture().size == (256, 192) and example.thumbnail.startswith(b"\xff\xd8")
    assert b"secret" not in example.thumbnail and "\u202e" not in example.name
    assert made.nbytes == len(example.thumbnail) + 16 * 4 + 768 < 64 * 1024


def test_duplicates_are_skipped_and_reported() -> None:
    made = gallery(10)
    sent = pictures(10, 20, 20)
    added = made.add("dark", sent, Fake().embed(sent))
    assert added.ids == ("e2",)
    assert added.skipped == (
        ("10.png", "the same picture as 10.png in even"),
        ("20.png", "the same picture as 20.png in dark"),
    )


def test_classes_are_renamed_merged_moved_and_removed() -> None:
    made = gallery(10, 11, 12)
    assert made.rename("even", "  Even ") == "Even" and made.classes == ["Even", "odd"]
    assert made.rename("odd", "strange") == "strange" and made.y.tolist() == ["Even", "strange", "Even"]
    with pytest.raises(GalleryError, match="There is a class Even already: merge the two"):
        made.rename("strange", "EVEN")
    with pytest.raises(GalleryError, match="there is no class cat: the classes are Even, strange"):
        made.rename("cat", "dog")
    assert made.move(["e1"], "new") == "new" and made.classes == ["Even", "strange", "new"]
    assert made.merge("new", "STRANGE") == "strange" and made.y.tolist() == ["strange", "strange", "Even"]
    with pytest.raises(GalleryError, match="cannot be merged with itself"):
        made.merge("Even", "even")
    made.remove_class("strange")
    assert made.classes == ["Even"] and [example.id for example in made.examples] == ["e3"]
    for change in (lambda: made.remove(["e3", "e1"]), lambda: made.move(["e1"], "x"), lambda: made.enable(["e1"])):
        with pytest.raises(GalleryError, match="there is no example e1"):
            change()
    assert len(made) == 1 and made.classes == ["Even"]


@pytest.mark.parametrize(
    ("bound", "value", "message"),
    [
        ("MAX_EXAMPLES", 3, "at most 3 examples; this would make 4: remove some first"),
        ("MAX_CLASSES", 2, "at most 2 classes"),
        ("GALLERY_BYTES", 1500, "A gallery holds at most"),
    ],
)
def test_a_full_gallery_adds_nothing(bound: str, value: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gallery(10, 11)
    monkeypatch.setattr(limits, bound, value)
    with pytest.raises(GalleryError, match=message):
        made.add("third", pictures(20, 30), Fake().embed(pictures(20, 30)))
    assert len(made) == 2 and made.classes == ["even", "odd"]


def test_embeddings_that_do_not_fit_are_refused() -> None:
    made = gallery(10)
    for wrong in (np.zeros((2, 16)), np.zeros(16), np.zeros((1, 8)), np.full((1, 16), np.nan)):
        with pytest.raises(GalleryError, match="give one finite row for each, of the length that fake makes"):
            made.add("even", pictures(20), wrong)
    assert len(made) == 1


def test_a_zip_becomes_a_gallery_and_skipped_files_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"dark/{gray}.png": png((gray, 0, 0)) for gray in range(70)} | {
        f"light/{gray}.png": png((gray, 0, 0)) for gray in range(150, 220)
    }
    source = zipped(
        files
        | {"light/notes.txt": b"hello", "loose.png": png((1, 2, 3)), "dark/again.png": png((5, 0, 0)), "none/": b""}
    )
    encoder, steps = Fake(), []
    made = Gallery(encoder)
    added = made.extend(read_zip(source), encoder, lambda done, total: steps.append((done, total)))
    assert made.counts == {"dark": 70, "light": 70} and len(added.ids) == 140
    assert [skipped.name for skipped in added.skipped] == ["none", "notes.txt", "loose.png", "again.png"]
    assert "outside all folders" in added.skipped[2].reason and "5.png in dark" in added.skipped[3].reason
    assert steps[-1] == (143, 143) and steps == sorted(steps) and max(encoder.calls) == 64
    assert (CentroidClassifier().fit(made.X, made.y).predict(made.X) == made.y).mean() > 0.95

    monkeypatch.setattr(limits, "MAX_EXAMPLES", 100)
    small = Gallery(encoder)
    added = small.extend(read_zip(source), encoder)
    assert len(small) == 100 and "the gallery is full (100 examples)" in added.skipped[-1].reason
    with pytest.raises(GalleryError, match="this gallery was made with fake and other came"):
        small.extend(read_zip(source), Fake("other"))


def test_large_pictures_are_embedded_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_PIXELS", 2500)  # two of 40 x 30
    encoder = Fake()
    Gallery(encoder).extend([Entry("a", f"{gray}.png", png((gray, 0, 0))) for gray in range(7)], encoder)
    assert encoder.calls == [3, 3, 1]


def test_embedding_again_is_all_or_nothing() -> None:
    made = gallery(10, 11, 12)
    made.enable(["e2"], False)
    before = made.X

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.re_embed(Fake("other", 2.0), stop)
    assert made.model == "fake" and np.array_equal(made.X, before)
    steps: list[tuple[int, int]] = []
    made.re_embed(Fake("other", 2.0), lambda done, total: steps.append((done, total)))
    assert steps == [(3, 3)] and made.model == "other" and made.fingerprint == "print-of-other"
    np.testing.assert_allclose(made.X, 2 * before, atol=4)  # the thumbnail is a JPEG
    assert [example.id for example in made.examples] == ["e1", "e2", "e3"] and not made["e2"].enabled


def test_raw_pixels_are_small_and_a_class_can_be_disabled() -> None:
    made = gallery(10, 11, 12)
    assert made.pixels.shape == (3, 768) and made.pixels[1].tolist() == [11.0] * 768
    assert np.array_equal(raw_pixels(pictures(10, 11)), made.pixels[:2])
    assert raw_pixels([]).shape == gallery().pixels.shape == (0, 768)
    assert made.enable_class("EVEN", False) == "even"
    assert made.y.tolist() == ["odd"] and made.counts == {"even": 0, "odd": 1} and len(made) == 3
    made.enable_class("even")
    assert made.shots == 1 and len(made.X) == 3


def test_changing_a_copy_leaves_the_original() -> None:
    made = gallery(10, 11)
    twin = made.copy()
    twin.move(["e1"], "new")
    twin.settings["k"] = 3
    assert made.classes == ["even", "odd"] and made["e1"].label == "even" and made.settings == {}
    assert twin["e2"] is made["e2"] and twin.classes == ["even", "odd", "new"]


def test_progress_counts_every_entry_refused_ones_too() -> None:
    entries = [Entry("cat", f"{number}.png", b"no picture" if number < 4 else png()) for number in range(5)]
    seen: list[int] = []
    Gallery(Fake()).extend(entries, Fake(), lambda done, total: seen.append(done))  # type: ignore[arg-type]
    assert seen == [1, 2, 3, 4, 5, 5]
