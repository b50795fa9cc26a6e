"""The menu: which models open, which stay in memory, and messages for missing ones."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vitmsn import checkpoint, limits
from vitmsn.checkpoint import download
from vitmsn.encoder import Encoder
from vitmsn.errors import CheckpointError, InputError
from vitmsn.ui import models as menu
from vitmsn.ui.models import EMBEDDED, GIVEN, MSN_ONLY, OFFICIAL, RANDOM, Models, open_model
from vitmsn.ui.visits import Call, Visit


def test_only_models_in_the_menu_open(models: Models) -> None:
    assert models.default == EMBEDDED
    assert [key for _, key in models.choices][-1] == RANDOM
    for key in ("../../etc", "someone/else", "", GIVEN):
        assert key not in models
        with pytest.raises(InputError, match="not in the menu"):
            models.get(key)


def test_a_call_uses_the_chosen_model(tiny: Encoder) -> None:
    opened: list[str | None] = []

    def opener(key: str, source: str | None) -> Encoder:
        opened.append(source)
        return tiny

    models = Models(opener=opener)
    call = Call(models, Visit("a", EMBEDDED))
    assert call.encoder is models.loaded(EMBEDDED) and opened == [None]
    assert call.python == "encoder = Encoder.from_pretrained()" and call.name == EMBEDDED
    chosen = Call(models, Visit("b", MSN_ONLY))
    assert chosen.encoder is tiny and opened == [None, MSN_ONLY] == [None, checkpoint.MSN_ONLY]
    assert chosen.python == f"encoder = Encoder.from_pretrained({MSN_ONLY!r})"
    assert "MSN only, no labels" in models.label(MSN_ONLY)


def test_a_model_is_read_once_and_two_stay_in_memory(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def opener(key: str, source: str | None) -> Encoder:
        opened.append(key)
        return tiny

    monkeypatch.setattr(limits, "MAX_MODELS", 2)
    models = Models(opener=opener)
    small, base = "facebook/vit-msn-small", "facebook/vit-msn-base"
    for key in (small, base, small, RANDOM, small, base):
        models.get(key)
    # base was the least recently used when the random weights were read
    assert opened == [small, base, RANDOM, base]
    assert models.in_memory() == [small, base]


def test_concurrent_visitors_read_a_model_once(tiny: Encoder) -> None:
    opened: list[str] = []

    def opener(key: str, source: str | None) -> Encoder:
        opened.append(key)
        time.sleep(0.05)
        return tiny

    models = Models(opener=opener)
    threads = [threading.Thread(target=models.get, args=(RANDOM,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [RANDOM]


def test_a_model_that_takes_too_long_is_said_and_used_when_it_is_there(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, opened = threading.Event(), list[str]()

    def opener(key: str, source: str | None) -> Encoder:
        opened.append(key)
        go.wait(60)
        return tiny

    monkeypatch.setattr(limits, "OPEN_SECONDS", 0.2)
    models, base = Models(opener=opener), "facebook/vit-msn-base"
    for _ in range(3):  # the second and the third do not even wait
        with pytest.raises(CheckpointError, match=f"^{base} is still being opened; choose another model, or try"):
            models.get(base)
    assert opened == [base]
    with pytest.raises(CheckpointError, match="random weights is still"):  # another one is opened beside it
        models.get(RANDOM)
    go.set()
    while set(models.in_memory()) != {base, RANDOM}:
        time.sleep(0.01)
    assert models.get(base) is tiny and opened == [base, RANDOM]


def test_only_some_visitors_wait_for_a_model(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def opener(key: str, source: str | None) -> Encoder:
        go.wait(60)
        return tiny

    monkeypatch.setattr(limits, "OPEN_WAITING", 2)
    models = Models(opener=opener)
    waiting = [threading.Thread(target=models.get, args=(RANDOM,)) for _ in range(2)]
    for thread in waiting:
        thread.start()
    while RANDOM not in models._openings or models._openings[RANDOM].waiting < 2:
        time.sleep(0.01)
    with pytest.raises(CheckpointError, match="random weights is still being opened"):
        models.get(RANDOM)
    go.set()
    for thread in waiting:
        thread.join()
    assert models.get(RANDOM) is tiny and not models._openings


@dataclass
class Downloads:
    """An opener whose downloads stand at 30 of 88 MB until `go` is set, as the Hub's would."""

    encoder: Encoder
    go: threading.Event = field(default_factory=threading.Event)
    ended: list[str] = field(default_factory=list)  # "ready", or why not

    def __call__(self, key: str, source: str | None) -> Encoder:
        report = download._report.get()
        assert report is not None
        try:
            report(10_000_000, 88_000_000)
            while not self.go.wait(0.01):
                report(30_000_000, 88_000_000)
            report(88_000_000, 88_000_000)
        except CheckpointError as error:
            self.ended.append(str(error))
            raise
        self.ended.append("ready")
        return self.encoder


def test_who_waits_hears_how_far_a_download_is(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menu, "STEP_SECONDS", 0.02)
    opener = Downloads(tiny)
    models = Models(opener=opener)
    follow = models.follow(OFFICIAL[0][0], lambda: True)
    far = next(far for far in follow if far and far.rate)
    assert (far.here, far.total, far.before) == (30_000_000, 88_000_000, 10_000_000)
    assert far.left == pytest.approx(58e6 / far.rate, rel=0.2, abs=1)
    opener.go.set()
    for _ in follow:
        pass
    assert models.in_memory() == [OFFICIAL[0][0]] and list(models.follow(OFFICIAL[0][0], lambda: False)) == []


def test_a_download_ends_when_nobody_waits_for_it_any_more(tiny: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menu, "STEP_SECONDS", 0.02)
    opener, small = Downloads(tiny), OFFICIAL[0][0]
    models = Models(opener=opener)
    wanted = {"a": True, "b": True}
    a, b = (models.follow(small, lambda who=who: wanted[who]) for who in wanted)  # type: ignore[misc]
    next(a), next(b)
    wanted["a"] = False
    assert list(a) == []
    assert next(b) is not None and opener.ended == []  # one still waits
    wanted["b"] = False
    assert list(b) == []
    again = models.follow(small, lambda: True)  # at once: a download of its own
    assert next(again) is not None or opener.ended
    while not opener.ended:
        time.sleep(0.01)
    assert opener.ended == ["Nobody waits for this download any more."]
    opener.go.set()
    for _ in again:
        pass
    assert opener.ended[1:] == ["ready"] and models.in_memory() == [small] and not models._openings


def test_a_download_that_takes_too_long_goes_on_and_says_how_far_it_is(
    tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(menu, "STEP_SECONDS", 0.02)
    monkeypatch.setattr(limits, "OPEN_SECONDS", 0.3)
    opener, small = Downloads(tiny), OFFICIAL[0][0]
    models = Models(opener=opener)
    said = r"^facebook/vit-msn-small is still being downloaded \(30 of 88 MB are here\); choose another model, or try"
    with pytest.raises(CheckpointError, match=said):
        list(models.follow(small, lambda: True))
    assert opener.ended == []
    opener.go.set()
    while models.is_far(small):
        time.sleep(0.01)
    assert models.get(small) is tiny


def test_a_model_that_failed_can_be_tried_again(tiny: Encoder) -> None:
    tries: list[str] = []

    def opener(key: str, source: str | None) -> Encoder:
        tries.append(key)
        if len(tries) == 1:
            raise CheckpointError("The hub is away.")
        return tiny

    models = Models(opener=opener)
    with pytest.raises(CheckpointError, match="away"):
        models.get(RANDOM)
    assert models.get(RANDOM) is tiny


def test_a_given_model_comes_first_and_its_folder_stays_private(models: Models) -> None:
    given = Models("/secret/folder/mine", opener=models.get)  # type: ignore[arg-type]
    assert given.default == GIVEN and given.choices[0][1] == GIVEN
    assert given.name(GIVEN) == "mine"
    assert "secret" not in given.choices[0][0]
    assert Call(given, Visit("v", GIVEN)).python == "encoder = Encoder.from_pretrained('mine')"


def test_without_the_embedded_model_the_menu_has_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str = EMBEDDED) -> Path:
        raise CheckpointError("The embedded model is not installed.")

    monkeypatch.setattr(checkpoint, "embedded", missing)
    models = Models()
    assert models.default == RANDOM and EMBEDDED not in models
    assert models.warning.startswith("The embedded model is not installed.") and "random weights" in models.warning


def test_a_damaged_embedded_model_leaves_the_menu_and_a_given_one_raises(tiny: Encoder) -> None:
    def opener(key: str, source: str | None) -> Encoder:
        if key == RANDOM:
            return tiny
        raise CheckpointError("model.safetensors is cut off.")

    models = Models(opener=opener)
    assert models.start() is tiny
    assert EMBEDDED not in models and "cut off" in models.warning
    with pytest.raises(CheckpointError, match="cut off"):
        Models("mine", opener=opener).start()


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_file_is_named_before_anything_is_served(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / EMBEDDED
    shutil.copytree(checkpoint.embedded(), folder)
    monkeypatch.setattr(checkpoint, "embedded", lambda name=EMBEDDED: folder)
    checkpoint.verify()
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(data if harm == "flip" else data[: len(data) // 2])
    models = Models(opener=lambda key, source: open_model(key, None if key == EMBEDDED else source))
    assert models.start() is models.loaded(RANDOM) and EMBEDDED not in models
    said = "missing" if harm == "remove" else "damaged"
    assert f"model.safetensors of the embedded model {EMBEDDED} is {said}; install it again." in models.warning
    assert str(tmp_path) not in models.warning
