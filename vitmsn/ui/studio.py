"""What a visit teaches: its examples, its queries, and the classifier that learned from them.

Few-shot changes it, Explore looks at it. It lives in the visit's memory under "studio", counted in bytes like all that
a visit keeps, and is embedded again when the visitor chooses another model. One lock per visit: a visitor's own changes
wait for one another, other visitors' never do.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from sklearn.base import ClassifierMixin

from vitmsn import fewshot, limits
from vitmsn.archive import Entries, Skipped, clean_name
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError, GalleryError, InputError
from vitmsn.gallery import Added, Example, Gallery
from vitmsn.image import Picture
from vitmsn.ui import examples, parts
from vitmsn.ui.state import Call

KEY = "studio"
FIRST = "textures"  # what the tabs open with
BLANK = ("Class 1", "Class 2")  # what a set of one's own begins with
QUERIES = "queries"  # the one class of the gallery that holds them
ENOUGH = 3  # examples in the smallest class, from which leave-one-out and "none of these" mean something
SIDE = 64  # pixels of the thumbnails on the page
CHUNK = 32  # pictures decoded and embedded together ...
CHUNK_PIXELS = 64_000_000  # ... or fewer, when they are large

METHODS = {
    "auto": "Automatic",
    "knn": "k nearest examples",
    "centroid": "Centroid",
    "ridge": "Ridge",
    "logistic": "Logistic",
}


# ------------------------------------------------------------------------------------------------------------ learning


@dataclass(frozen=True)
class Prediction:
    """What is said of one query. `label` is None for "none of these"; `closest` is the most probable class even then.

    `neighbours`: the most similar examples, as (index among the lesson's examples, cosine similarity), best first.
    """

    label: str | None
    closest: str
    confidence: float  # of `closest`, calibrated, 0..1
    probabilities: np.ndarray  # (C,)
    neighbours: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Lesson:
    """A classifier, how it did on examples it had not seen, and when it says "none of these"."""

    method: str  # the classifier's name in METHODS, never "auto"
    classifier: Any
    judged: fewshot.LeaveOneOut
    rejector: fewshot.Rejector | None  # None with fewer than ENOUGH examples in a class
    examples: tuple[Example, ...]  # rows in the order learned
    counts: dict[str, int]  # of classes with examples

    @property
    def few(self) -> list[str]:
        """Classes with too few examples to judge by."""
        return [label for label, count in self.counts.items() if count < ENOUGH]

    @property
    def classes(self) -> list[str]:
        """Columns of the probabilities."""
        return [str(label) for label in self.classifier.classes_]

    def answer(self, X: np.ndarray, n_neighbors: int = 3) -> list[Prediction]:
        """Embeddings (Q, D) of the same model -> one prediction each."""
        if not len(X):
            return []
        probabilities = self.classifier.predict_proba(X)
        rejected = self.rejector.reject(X) if self.rejector else np.zeros(len(X), bool)
        rows = np.stack([example.embedding for example in self.examples])
        similarity, index = fewshot.nearest(rows, X, n_neighbors, center=self.classifier.center_)
        answers = []
        for row, refused, near, values in zip(probabilities, rejected, index, similarity, strict=True):
            best = int(row.argmax())
            label = self.classes[best]
            pairs = tuple((int(i), float(value)) for i, value in zip(near, values, strict=True))
            answers.append(Prediction(None if refused else label, label, float(row[best]), row, pairs))
        return answers


def learn(
    gallery: Gallery, center: np.ndarray | None, method: str = "auto", k: int = 5, caution: float = 0.05
) -> Lesson:
    """Fit and judge a classifier on the gallery's examples.

    center: the model's feature mean, or None; used below ENOUGH examples per class (`centre`). method: a key of
    METHODS; k: of "knn"; caution: share of the examples that "none of these" may cost. Raises InputError for what is
    not offered, FewShotError with fewer than two classes that have examples.
    """
    if method not in METHODS:
        raise InputError(f"There is no method {str(method)[:32]!r}; choose one of {', '.join(METHODS)}.")
    counts = {label: count for label, count in gallery.counts.items() if count}
    if len(counts) < 2:
        raise FewShotError(f"Pictures of {len(counts)} classes came; give pictures of at least two.")
    center = centre(gallery, center)
    estimator: ClassifierMixin
    if method == "auto":
        estimator = fewshot.automatic(max(1, gallery.shots), center=center)
        method = "centroid" if isinstance(estimator, fewshot.CentroidClassifier) else "ridge"
    elif method == "knn":
        estimator = fewshot.KNNClassifier(n_neighbors=k, center=center)
    else:
        kinds = {
            "centroid": fewshot.CentroidClassifier,
            "ridge": fewshot.RidgeClassifier,
            "logistic": fewshot.LogisticClassifier,
        }
        estimator = kinds[method](center=center)
    X, y = gallery.X, gallery.y
    classifier = estimator.fit(X, y)
    judged = fewshot.leave_one_out(estimator, X, y)
    rejector = fewshot.Rejector(caution, center=center).fit(X) if gallery.shots >= ENOUGH else None
    return Lesson(method, classifier, judged, rejector, tuple(gallery.enabled), counts)


def centre(gallery: Gallery, feature_mean: np.ndarray | None) -> np.ndarray | None:
    """What to centre on: the model's feature mean while there are few examples, then (None) their own mean.

    Pictures of one kind (digits, textures) lie together far from the mean of all pictures: around that mean they all
    look alike, and a penalty that keeps weights small hides what tells them apart.
    """
    return feature_mean if gallery.shots < ENOUGH else None


def own_class(X: np.ndarray, y: Sequence[str], center: np.ndarray | None) -> tuple[int, int]:
    """(how many of these examples have a most similar other example of their own class, of how many)."""
    if len(X) < 2:
        return 0, 0
    _, index = fewshot.nearest(X, X, 2, center=center)
    other = np.where(index[:, 0] == np.arange(len(X)), index[:, 1], index[:, 0])
    labels = np.asarray(y)
    return int((labels[other] == labels).sum()), len(X)


# -------------------------------------------------------------------------------------------------------------- studio


class Studio:
    """One visitor's examples and queries. Use it inside `opened(call)`, which holds the lock.

    Attributes: ``gallery``; ``queries``, a gallery of one class; ``truth``, the class of each query of a starter set by
    id; ``starter``, the name of the starter set while it is untouched; ``version``, which grows with every change;
    ``undo``, what the last change was, in words, while it can be taken back.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.lock = threading.RLock()
        self.gallery = Gallery(encoder)
        self.queries = Gallery(encoder)
        self.truth: dict[str, str] = {}
        self.starter = ""
        self.version = 0
        self.begun = False
        self.undo = ""
        self._before: tuple[Gallery, Gallery, dict[str, str], str] | None = None
        self._urls: dict[str, str] = {}  # digest -> thumbnail on the page
        self._lesson: tuple[Any, Lesson] | None = None
        self.kept: dict[Any, np.ndarray] = {}  # maps of this version

    @property
    def nbytes(self) -> int:
        before = self._before[0].nbytes + self._before[1].nbytes if self._before else 0
        return self.gallery.nbytes + self.queries.nbytes + before + sum(map(len, self._urls.values()))

    # Changes

    def changed(self, words: str = "") -> None:
        """After a change: answers are out of date."""
        self.version += 1
        self.starter, self.undo = "", words
        self.kept.clear()
        held = {example.digest for example in (*self.gallery.examples, *self.queries.examples)}
        self._urls = {digest: url for digest, url in self._urls.items() if digest in held}

    @contextmanager
    def change(self, words: str) -> Iterator[Gallery]:
        """The gallery, to be changed; all of it or, when something raises, nothing. ``words`` say what Undo undoes."""
        before = (copy.deepcopy(self.gallery), self.queries, dict(self.truth), self.starter)
        try:
            yield self.gallery
        except BaseException:
            self.gallery, self.queries, self.truth, self.starter = before
            raise
        if _content(before[0]) != _content(self.gallery) or before[1] is not self.queries:
            self._before = before
            self.changed(words)

    def take_back(self) -> str:
        """Undo the last change of the examples; what it was, in words."""
        if self._before is None:
            raise GalleryError("There is nothing to undo.")
        words = self.undo
        self.gallery, self.queries, self.truth, starter = self._before
        self._before = None
        self.changed()
        self.starter = starter
        return words

    def start(self, encoder: Encoder, name: str, progress: Any = None) -> None:
        """Put a starter set, or with "" two empty classes, in place of everything."""
        gallery, queries, truth = Gallery(encoder), Gallery(encoder), {}
        if name:
            made = examples.starter_set(name)
            for label, pictures in made.support.items():
                gallery.add(label, pictures, encoder.embed(pictures, progress=progress))
            pictures = _mixed(made.queries)
            added = queries.add(QUERIES, pictures, encoder.embed(pictures, progress=progress))
            of_digest = {picture.digest: label for label, picture in made.queries}
            truth = {id: of_digest[queries[id].digest] for id in added.ids}
        else:
            for label in BLANK:
                gallery.add_class(label)
        before = (self.gallery, self.queries, self.truth, self.starter)
        self.gallery, self.queries, self.truth = gallery, queries, truth
        self._before = before if self.begun and not before[3] and len(before[0]) else None
        self.changed("started anew" if self._before else "")
        self.starter = name

    def name_class(self, name: str) -> None:
        """Add a class; one that the page began with and nobody filled takes the name instead."""
        label = clean_name(name)
        if any(label.casefold() == known.casefold() for known in self.gallery.classes):
            raise GalleryError(f"There is a class {label} already: choose another name.")
        blank = next((known for known in BLANK if self.gallery.counts.get(known) == 0), None)
        with self.change(f"added the class {label}") as gallery:
            if blank:
                gallery.rename(blank, label)
            else:
                gallery.add_class(label)

    def add(self, encoder: Encoder, label: str, pictures: Iterable[Picture]) -> Added:
        """Add pictures to a class."""
        ids: list[str] = []
        skipped: list[Skipped] = []
        with self.change(f"added to {label}") as gallery:
            for chunk in _chunks(pictures):
                added = gallery.add(label, chunk, encoder.embed(chunk))
                ids.extend(added.ids)
                skipped.extend(added.skipped)
        return Added(tuple(ids), tuple(skipped))

    def unpack(self, encoder: Encoder, entries: Entries, progress: Any = None) -> Added:
        """Add a zip of folders. An untouched starter set, or empty classes nobody filled, make room for it."""
        room = bool(self.starter) or not len(self.gallery)
        held = 0 if room else len(self.gallery)
        if entries.total + held > limits.MAX_EXAMPLES:
            entries.close()
            raise GalleryError(
                f"The zip holds {entries.total} files, {held} examples are here, and {limits.MAX_EXAMPLES} are kept: "
                "send fewer."
            )
        with self.change("added a zip"):
            if room:
                self.gallery, self.queries, self.truth = Gallery(encoder), Gallery(encoder), {}
            added = self.gallery.extend(entries, encoder, progress)
            if not added.ids and room:
                raise GalleryError("No picture came out of the zip: put pictures into one folder for each class.")
            return added

    def ask(self, encoder: Encoder, pictures: Iterable[Picture], count: int) -> int:
        """Add up to ``count`` queries (those of a starter set make room); how many of them came twice."""
        room = bool(self.truth)
        held = 0 if room else len(self.queries)
        if held + count > limits.MAX_QUERIES:
            raise InputError(
                f"{count} pictures came, {held} are here and {limits.MAX_QUERIES} are kept: clear them, or send fewer."
            )
        queries = Gallery(encoder) if room else copy.deepcopy(self.queries)
        twice = 0
        for chunk in _chunks(pictures):
            twice += len(queries.add(QUERIES, chunk, encoder.embed(chunk)).skipped)
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
        """Embed everything again when the model is another one."""
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

    def lesson(self, encoder: Encoder, method: str, k: int, caution: float) -> Lesson:
        """The classifier for these settings, learned once per version."""
        asked = (self.version, encoder.fingerprint, method, k if method == "knn" else 0, caution)
        if self._lesson is None or self._lesson[0] != asked:
            self._lesson = (asked, learn(self.gallery, encoder.feature_mean, method, k, caution))
        return self._lesson[1]

    def url(self, example: Example) -> str:
        """A small picture of an example or query, as a data: URL."""
        if example.digest not in self._urls:
            picture = example.picture()
            picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
            self._urls[example.digest] = parts.data_url(picture, quality=75)
        return self._urls[example.digest]


def _mixed(queries: Sequence[tuple[str, Picture]]) -> list[Picture]:
    """One of each class, then the next of each: what is in sight shows them all."""
    turn: dict[str, int] = {}
    turns = []
    for label, _ in queries:
        turn[label] = turn.get(label, 0) + 1
        turns.append(turn[label])
    return [queries[i][1] for i in sorted(range(len(queries)), key=turns.__getitem__)]


def _content(gallery: Gallery) -> tuple[list[str], list[tuple[str, str]]]:
    return gallery.classes, [(example.id, example.label) for example in gallery.examples]


def _chunks(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """A few decoded pictures at a time, so that many large ones never lie in memory together."""
    chunk: list[Picture] = []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == CHUNK or sum(p.rgb.width * p.rgb.height for p in chunk) > CHUNK_PIXELS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@contextmanager
def opened(call: Call) -> Iterator[tuple[Studio, Encoder]]:
    """The visitor's studio, locked, embedded by the visitor's model; with a starter set when it is new."""
    encoder = call.encoder
    with call.visit.lock:
        studio = call.visit.kept.get(KEY)
        if not isinstance(studio, Studio):
            studio = call.visit.kept[KEY] = Studio(encoder)
    with studio.lock:
        if not studio.begun:
            offered = [known.name for known in examples.starter_sets()]
            wished = call.query.get("set", FIRST)
            first = next((name for name in (wished, FIRST) if name in offered), offered[0] if offered else "")
            studio.start(encoder, first, call.progress)
            studio.begun = True
        studio.follow(encoder, call.progress)
        yield studio, encoder


def version(visit: Any) -> int:
    """The stamp of what the tabs show."""
    studio = visit.kept.get(KEY)
    return studio.version if isinstance(studio, Studio) else 0
