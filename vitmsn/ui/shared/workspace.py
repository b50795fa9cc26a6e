"""The workspace of a visit: its examples, its queries, and the classifier that learned from them.

Few-shot and Explore share it. It is kept in the visit's memory, counted in bytes like all that a visit keeps, and
embedded again when the visitor chooses another model. One lock per visit: changes of one visitor wait for each other,
other visitors' never wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from cachetools import LRUCache
from PIL import Image

from vitmsn import fewshot, image, limits
from vitmsn.archive import Entries, Skipped
from vitmsn.encoder import Encoder
from vitmsn.errors import GalleryError, InputError
from vitmsn.gallery import Added, Example, Gallery
from vitmsn.image import Picture
from vitmsn.names import clean_name, name_key
from vitmsn.ui.locale import current, later, tr
from vitmsn.ui.shared import examples, html
from vitmsn.ui.visits import Call, Visit

if TYPE_CHECKING:
    from vitmsn.fewshot import Lesson

FIRST = "textures"  # the starter set that a new workspace opens with, unless the tab has another
BLANK = (later("Class 1"), later("Class 2"))  # the empty classes of a visitor's own set
QUERIES = "queries"  # the one class of the gallery of queries
SIDE = 64  # pixels of the thumbnails on the page
TOGETHER = 32  # pictures decoded and embedded together

METHODS = {
    "auto": later("Automatic"),
    "knn": later("k nearest examples"),
    "centroid": later("Centroid"),
    "ridge": later("Ridge"),
    "logistic": later("Logistic"),
    "pixels": later("Raw pixels"),
}


# ------------------------------------------------------------------------------------------------------------ learning


def learn(
    gallery: Gallery,
    feature_mean: np.ndarray | None,
    method: str = "auto",
    k: int = 5,
    caution: float = 0.05,
    temperature: float = 0.07,
) -> Lesson:
    """`fewshot.learn` on a gallery's examples, with their raw pixels to compare with."""
    return fewshot.learn(
        gallery.X,
        gallery.y,
        method,
        feature_mean=feature_mean,
        k=k,
        temperature=temperature,
        caution=caution,
        pixels=gallery.pixels,
        examples=gallery.enabled,
    )


def center(gallery: Gallery, feature_mean: np.ndarray | None) -> np.ndarray | None:
    """The center of the gallery's embeddings, see `fewshot.choose_center`."""
    return feature_mean if fewshot.choose_center(gallery.shots, feature_mean) is not None else None


def own_class(X: np.ndarray, y: Sequence[str], center: np.ndarray | None) -> tuple[int, int]:
    """(number of examples whose nearest other example has the same class, number of examples)."""
    if len(X) < 2:
        return 0, 0
    _, index = fewshot.nearest(X, X, 2, center=center)
    other = np.where(index[:, 0] == np.arange(len(X)), index[:, 1], index[:, 0])
    labels = np.asarray(y)
    return int((labels[other] == labels).sum()), len(X)


# ----------------------------------------------------------------------------------------------------------- workspace


class Workspace:
    """One visitor's examples and queries. Use it inside `opened(call)`, which holds the lock.

    Attributes: ``gallery``; ``queries``, a gallery of one class; ``truth``, the class of each query of a starter set by
    id; ``starter``, the name of the starter set while it is untouched; ``own``, whether it holds the visitor's own
    pictures that are not saved; ``version``, which grows with every change; ``undo``, the last change in words,
    while it can be undone.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.lock = threading.RLock()
        self.gallery = Gallery(encoder)
        self.queries = Gallery(encoder)
        self.truth: dict[str, str] = {}
        self.starter = ""
        self.own = False
        self.saved = 0  # the version that was saved as a file
        self.version = 0
        self.begun = False
        self.undo = ""
        self._before: tuple[Gallery, Gallery, dict[str, str], str] | None = None
        self.cell: tuple[str, str] | None = None  # the open cell of the confusion matrix: (label, prediction)
        self.unfolded: set[str] = set()  # classes that show all their pictures
        self.order = ""  # order of the answers: "" as added, "up" or "down" by probability
        self._urls: dict[str, str] = {}  # digest -> thumbnail on the page
        self._lesson: tuple[Any, Lesson] | None = None
        self._automatic = ""  # the method that "auto" chose last for this set
        self.switched = ""  # the method before, when "auto" has just chosen another
        self.kept: dict[Any, Any] = {}  # cached results of this version: maps, curves, attention

    @property
    def nbytes(self) -> int:
        before = self._before  # another thread may change it, and what is counted below
        undo = before[0].nbytes + before[1].nbytes if before else 0
        return self.gallery.nbytes + self.queries.nbytes + undo + sum(map(len, list(self._urls.values())))

    # Changes

    def changed(self, words: str = "") -> None:
        """Record a change: cached answers are out of date."""
        self.version += 1
        self.starter, self.undo, self.cell = "", words, None
        self.kept.clear()
        held = {example.digest for example in (*self.gallery.examples, *self.queries.examples)}
        self._urls = {digest: url for digest, url in self._urls.items() if digest in held}

    @contextmanager
    def change(self, words: str) -> Iterator[Gallery]:
        """Change the gallery: completely, or not at all when something raises. ``words`` say what Undo undoes."""
        before = (self.gallery.copy(), self.queries, dict(self.truth), self.starter)
        try:
            yield self.gallery
        except BaseException:
            self.gallery, self.queries, self.truth, self.starter = before
            raise
        if _content(before[0]) != _content(self.gallery) or before[1] is not self.queries:
            self._before = before
            self.changed(words)

    def take_back(self) -> str:
        """Undo the last change of the examples; returns what it was, in words."""
        if self._before is None:
            raise GalleryError(tr("There is nothing to undo."))
        words = self.undo
        self.gallery, self.queries, self.truth, starter = self._before
        self._before = None
        self.changed()
        self.starter, self.own = starter, not starter and len(self.gallery) > 0
        return words

    def start(self, encoder: Encoder, name: str, progress: Any = None) -> None:
        """Replace everything with a starter set, or with two empty classes for ""."""
        gallery, queries, truth = Gallery(encoder), Gallery(encoder), {}
        if name:
            made = _starter(encoder, name, progress)
            gallery, queries, truth = made.gallery.copy(), made.queries.copy(), dict(made.truth)
            self._urls.update(made.urls)
        else:
            for label in BLANK:
                gallery.add_class(tr(label))
        before = (self.gallery, self.queries, self.truth, self.starter)
        self.gallery, self.queries, self.truth = gallery, queries, truth
        self._before = before if self.begun and not before[3] and len(before[0]) else None
        self._automatic = self.switched = ""
        self.changed(tr("started anew") if self._before else "")
        self.starter, self.own = name, False

    def reopen(self, encoder: Encoder, bundle: Gallery) -> None:
        """Replace the examples with a saved gallery."""
        with self.change(tr("opened a saved set")):
            self.gallery, self.queries, self.truth = bundle, Gallery(encoder), {}
        self.own = False  # it is saved in a file

    def adopt(self, id: str, label: str) -> None:
        """Make a query an example of the class that the visitor named."""
        query = self.queries[id]
        with self.change(tr("added {name} to {label}", name=query.name, label=label)) as gallery:
            gallery.adopt(query, gallery.label(label))
        self.own = self.own or not self.truth

    def name_class(self, name: str) -> None:
        """Add a class; if one of the initial empty classes is still empty, rename it instead."""
        label = clean_name(name)
        words = tr("added the class {label}", label=label)
        if words == self.undo:
            return  # the same again, from a double click
        if any(name_key(label) == name_key(known) for known in self.gallery.classes):
            raise GalleryError(tr("There is a class {label} already: choose another name.", label=label))
        names = [name for label in BLANK for name in (label, tr(label))]
        blank = next((known for known in names if self.gallery.counts.get(known) == 0), None)
        with self.change(words) as gallery:
            if blank:
                gallery.rename(blank, label)
            else:
                gallery.add_class(label)

    def add(self, encoder: Encoder, label: str, pictures: Iterable[Picture]) -> Added:
        """Add pictures to a class."""
        ids: list[str] = []
        skipped: list[Skipped] = []
        with self.change(tr("added to {label}", label=label)) as gallery:
            members = [example for example in gallery.examples if example.label == label]
            resting = bool(members) and not any(example.enabled for example in members)
            for batch in _batches(pictures):
                added = gallery.add(label, batch, encoder.embed(batch))
                ids.extend(added.ids)
                skipped.extend(added.skipped)
            if resting:  # new examples of a disabled class are disabled too
                gallery.enable(ids, False)
        self.own = self.own or bool(ids)
        return Added(tuple(ids), tuple(skipped))

    def unpack(self, encoder: Encoder, entries: Entries, progress: Any = None) -> Added:
        """Add a zip of folders. It replaces an untouched starter set or empty classes."""
        room = bool(self.starter) or not len(self.gallery)
        held = 0 if room else len(self.gallery)
        if entries.total + held > limits.MAX_EXAMPLES:
            entries.close()
            raise GalleryError(
                tr(
                    "The zip holds {total} files, {held} examples are here, and {most} are kept: send fewer.",
                    total=entries.total,
                    held=held,
                    most=limits.MAX_EXAMPLES,
                )
            )
        with self.change(tr("added a zip")):
            if room:
                self.gallery, self.queries, self.truth = Gallery(encoder), Gallery(encoder), {}
            added = self.gallery.extend(entries, encoder, progress)
            if not added.ids and room:
                raise GalleryError(tr("No picture came out of the zip: put pictures into one folder for each class."))
        self.own = self.own or bool(added.ids)
        return added

    def ask(self, encoder: Encoder, pictures: Iterable[Picture], count: int) -> int:
        """Add up to ``count`` queries (replacing those of a starter set); returns how many were duplicates."""
        room = bool(self.truth)
        held = 0 if room else len(self.queries)
        if held + count > limits.MAX_QUERIES:
            raise InputError(
                tr(
                    "{count} pictures came, {held} are here and {most} are kept: clear them, or send fewer.",
                    count=count,
                    held=held,
                    most=limits.MAX_QUERIES,
                )
            )
        queries = Gallery(encoder) if room else self.queries.copy()
        twice = 0
        for batch in _batches(pictures):
            twice += len(queries.add(QUERIES, batch, encoder.embed(batch)).skipped)
        if len(queries):
            self._asked(queries)
        return twice

    def _asked(self, queries: Gallery) -> None:
        starter = self.starter
        self.queries, self.truth = queries, {}
        self.changed(self.undo)
        self.starter = starter

    def clear_queries(self, encoder: Encoder) -> None:
        self._asked(Gallery(encoder))

    def follow(self, encoder: Encoder, progress: Any = None) -> None:
        """Embed everything again when the model changed."""
        galleries = [g for g in (self.gallery, self.queries) if g.fingerprint != encoder.fingerprint]
        total, done = sum(map(len, galleries)), 0
        for gallery in galleries:

            def said(part: int, _: int, before: int = done) -> None:
                if progress:
                    progress(before + part, total)

            gallery.re_embed(encoder, said)
            done += len(gallery)
        if galleries:
            self.version += 1
            self.kept.clear()

    # Reading

    def lesson(self, encoder: Encoder, method: str, k: int, caution: float, temperature: float = 0.07) -> Lesson:
        """The classifier for these settings; learned once per version."""
        voting = (k, temperature) if method == "knn" else ()
        asked = (self.version, encoder.fingerprint, method, voting, caution)
        if self._lesson is None or self._lesson[0] != asked:
            lesson = learn(self.gallery, encoder.feature_mean, method, k, caution, temperature)
            self._lesson = (asked, lesson)
            if method == "auto":
                self.switched = self._automatic if self._automatic != lesson.method else ""
                self._automatic = lesson.method
        return self._lesson[1]

    def url(self, example: Example, side: int = SIDE) -> str:
        """A small picture of an example or query, as a data: URL; only thumbnails are cached."""
        if side == SIDE and example.digest in self._urls:
            return self._urls[example.digest]
        url = _url(example, side)
        if side == SIDE:
            self._urls[example.digest] = url
        return url


def _url(example: Example, side: int) -> str:
    picture = example.picture()
    picture.thumbnail((side, side), Image.Resampling.BICUBIC)
    return html.data_url(picture, quality=75)


@dataclass(frozen=True)
class _Starter:
    """A starter set as a model embeds it, with the names of a language, and its thumbnails by their digest."""

    gallery: Gallery
    queries: Gallery
    truth: dict[str, str]
    urls: dict[str, str]


# Visits share the examples of a starter set, which are most of what a visit with Few-shot open would hold.
_starters: LRUCache[tuple[str, str, str, str], _Starter] = LRUCache(16)
_starters_lock = threading.Lock()


def _starter(encoder: Encoder, name: str, progress: Any) -> _Starter:
    """The set of that name, made when it is first needed. Copy its galleries before a change."""
    key = name, current(), encoder.name, encoder.fingerprint
    with _starters_lock:
        known = _starters.get(key)
    if known is not None:
        return known
    made, gallery, queries = examples.starter_set(name), Gallery(encoder), Gallery(encoder)
    for label, pictures in made.support.items():
        gallery.add(tr(label), pictures, encoder.embed(pictures, progress=progress))
    pictures = _mixed(made.queries)
    added = queries.add(QUERIES, pictures, encoder.embed(pictures, progress=progress))
    of_digest = {picture.digest: tr(label) for label, picture in made.queries}
    truth = {id: of_digest[queries[id].digest] for id in added.ids}
    urls = {example.digest: _url(example, SIDE) for example in (*gallery.examples, *queries.examples)}
    with _starters_lock:
        return _starters.setdefault(key, _Starter(gallery, queries, truth, urls))


def _mixed(queries: Sequence[tuple[str, Picture]]) -> list[Picture]:
    """Interleave the classes, so that the first few queries show all of them."""
    turn: dict[str, int] = {}
    turns = []
    for label, _ in queries:
        turn[label] = turn.get(label, 0) + 1
        turns.append(turn[label])
    return [queries[i][1] for i in sorted(range(len(queries)), key=turns.__getitem__)]


def _content(gallery: Gallery) -> tuple[list[str], list[tuple[str, str, bool]]]:
    return gallery.classes, [(example.id, example.label, example.enabled) for example in gallery.examples]


def _batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """A few decoded pictures at a time, so that many large ones are never in memory together."""
    return (batch.pictures for batch in image.batches(enumerate(pictures), size=TOGETHER))


@dataclass
class WorkspaceState:
    """The state that Few-shot and Explore share."""

    workspace: Workspace | None = None

    @property
    def nbytes(self) -> int:
        return 0 if self.workspace is None else self.workspace.nbytes


@contextmanager
def opened(call: Call, first: str = FIRST) -> Iterator[tuple[Workspace, Encoder]]:
    """The visitor's workspace, locked and embedded by `call.encoder`; a new one gets the starter set `first`, or that
    of the address."""
    encoder = call.encoder
    with call.visit.lock:
        kept = call.visit.state(WorkspaceState)
        workspace = kept.workspace = kept.workspace or Workspace(encoder)
    with workspace.lock:
        if not workspace.begun:
            offered = [known.name for known in examples.starter_sets()]
            wished = call.query.get("set", first)
            name = next((name for name in (wished, first) if name in ["", *offered]), "")
            workspace.start(encoder, name, call.progress)
            workspace.begun = True
        workspace.follow(encoder, call.progress)
        yield workspace, encoder


def version(visit: Visit) -> int:
    """The workspace's version, the stamp of the tabs that show it."""
    workspace = visit.state(WorkspaceState).workspace
    return 0 if workspace is None else workspace.version
