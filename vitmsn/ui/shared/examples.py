"""Example pictures and few-shot starter sets: of the installed scikit-image, scikit-learn and Gradio, or drawn here.

They are read at run time: nothing is downloaded and nothing is copied into this project. Only files inside the wheels
are listed; a file that a future wheel leaves out is not offered.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import image
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError, InputError
from vitmsn.image import Picture
from vitmsn.training import shapes
from vitmsn.ui.locale import current, later, tr, tr_html
from vitmsn.ui.shared import html
from vitmsn.ui.shared.scripts import script

SCRIPT = script(__file__, "examples.js")
DRAWN_HERE = later("drawn by this program")  # a credit
STRIP_SIDE = 96  # pixels of the thumbnails under a picture

# name, package, file, title (also the alternative text), credit; the page opens with the first. Chosen so that the
# embedded model names some rightly, some only by their kind, and says of some that it is not sure.
PHOTOGRAPHS = (
    ("coffee", "skimage", "data/coffee.png", later("A cup of espresso"), "Rachel Michetti, CC0, from scikit-image"),
    ("cat", "skimage", "data/chelsea.png", later("A tabby cat"), "Stéfan van der Walt, CC0, from scikit-image"),
    ("lion", "gradio", "media_assets/images/lion.jpg", later("A lion"), "from Gradio (Apache-2.0)"),
    (
        "motorcycle",
        "skimage",
        "data/motorcycle_left.png",
        later("A motorcycle"),
        "Middlebury 2014 stereo dataset, from scikit-image (BSD-3-Clause)",
    ),
    ("flower", "sklearn", "datasets/images/flower.jpg", later("A dahlia"), "vultilion, CC BY 2.0, from scikit-learn"),
    (
        "temple",
        "sklearn",
        "datasets/images/china.jpg",
        later("A Chinese temple"),
        "danielbuechele, CC BY 2.0, from scikit-learn",
    ),
    ("astronaut", "skimage", "data/astronaut.png", later("An astronaut"), "NASA, public domain, from scikit-image"),
    ("photographer", "skimage", "data/camera.png", later("A photographer"), "Lav Varshney, CC0, from scikit-image"),
)
# the classes of the starter sets, which a visitor's set gets in the language of the page
LABELS = (
    *(later("brick"), later("grass"), later("gravel"), later("cat"), later("coffee"), later("flower"), later("temple")),
    *(later("striped disk"), later("checked disk"), later("dotted square"), later("ringed square")),
    *(later("striped triangle"), later("checked triangle"), later("dotted ring"), later("ringed star")),
)
Support = dict[str, list[Picture]]  # examples of each class
Queries = list[tuple[str, Picture]]  # others, and their classes

TEXTURES = (
    ("brick", "data/brick.png"),
    ("grass", "data/grass.png"),
    ("gravel", "data/gravel.png"),
)


@dataclass(frozen=True)
class ExamplePhoto:
    """One photograph: links contain its `name`, `title` says what it shows."""

    name: str
    title: str
    credit: str
    picture: Picture


@dataclass(frozen=True)
class StarterSet:
    """A small labelled set to learn from, and pictures of the same classes to test it, read or drawn when first asked
    for: the first page names the sets and shows none."""

    name: str
    title: str
    credit: str
    make: Callable[[], tuple[Support, Queries]] = field(repr=False)

    @cached_property
    def _pictures(self) -> tuple[Support, Queries]:
        return self.make()

    @property
    def support(self) -> Support:
        return self._pictures[0]

    @property
    def queries(self) -> Queries:
        return self._pictures[1]


def installed(package: str, name: str) -> Path | None:
    """The path of a file inside an installed package, without importing it; None if it is missing."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, name)
        if path.is_file():
            return path
    return None


@lru_cache(maxsize=1)
def photographs() -> tuple[ExamplePhoto, ...]:
    """The example photographs that are installed, in the order of the strip; never empty."""
    found = []
    for name, package, file, title, credit in PHOTOGRAPHS:
        path = installed(package, file)
        try:
            if path:
                found.append(ExamplePhoto(name, title, credit, image.decode(path, name=path.name)))
        except ImageError:
            continue  # a damaged file loses its picture, not the page
    return tuple(found) or (ExamplePhoto("stripes", later("Stripes"), DRAWN_HERE, _stripes()),)


def inside(title: str) -> str:
    """A title as it stands inside a sentence: "a photographer"; in German "ein Fotograf"."""
    article, _, rest = title.partition(" ")
    return f"{article.lower()} {rest}" if article in ("A", "An", "Ein", "Eine") and rest else title


def embed(encoder: Encoder) -> None:
    """Embed the photographs, so that an answer to one of them needs no forward as long as the encoder remembers it."""
    encoder.embed([example.picture for example in photographs()])


def _stripes() -> Picture:
    """A generated picture, for when no package contains a photograph."""
    wave = np.sin(np.linspace(0, 24, 256))[None, :] + np.sin(np.linspace(0, 9, 256))[:, None]
    gray = ((wave + 2) / 4 * 255).astype(np.uint8)
    return image.decode(Image.fromarray(gray), name="stripes.png")


def by_name(name: str) -> ExamplePhoto:
    """The example of that name; otherwise InputError lists the names."""
    for example in photographs():
        if example.name == name:
            return example
    known = ", ".join(example.name for example in photographs())
    raise InputError(tr("There is no example called {name!r}; choose one of {known}.", name=name[:32], known=known))


def strip() -> Markup:
    """The row of thumbnails under a picture, as buttons that contain their pixels."""
    return _strip(current())


@lru_cache
def _strip(language: str) -> Markup:
    """The same in a language, which is that of the page."""
    buttons = Markup().join(
        Markup('<button type="button" data-name="{}" title="{}">{}</button>').format(
            html.text(e.name),
            html.text(tr(e.title)),
            html.img(square(e.picture.rgb), tr("Example: {title}", title=tr(e.title))),
        )
        for e in photographs()
    )
    return tr_html('<div class="msn-strip-row" role="group" aria-label="Example pictures">{}</div>').format(buttons)


def said() -> Markup:
    """The line under a picture that says how far a new one is, or why none came; empty at first."""
    return tr_html(
        '<p class="msn-hint"><span role="status" data-said></span> <span data-left aria-hidden="true"></span></p>'
        '<progress max="1" aria-label="Sent" data-sent hidden></progress>'
        '<button type="button" class="msn-button" data-stop hidden>Stop</button>'
    )


def credit() -> str:
    """Who made the example pictures, in one sentence."""
    return "; ".join(f"{tr(e.title)}: {e.credit}" for e in photographs()) + "."


def square(picture: Image.Image) -> Image.Image:
    """The middle of a picture, small, for a strip."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.resize((STRIP_SIDE, STRIP_SIDE), Image.Resampling.LANCZOS, (left, top, left + side, top + side))


# ------------------------------------------------------------------------------------------------------ starter sets


@lru_cache(maxsize=1)
def starter_sets() -> tuple[StarterSet, ...]:
    """The few-shot starter sets that can be made here: textures, photographs, handwritten digits, drawn shapes."""
    return tuple(made for made in (_textures(), _crops(), _digits(), _shapes()) if made is not None)


def starter_set(name: str) -> StarterSet:
    """The set of that name; otherwise InputError lists the names."""
    for known in starter_sets():
        if known.name == name:
            return known
    names = [s.name for s in starter_sets()]
    raise InputError(tr("There is no starter set called {name!r}; choose one of {known}.", name=name[:32], known=names))


def _split(label: str, tiles: list[Picture], seed: int, shots: int) -> tuple[list[Picture], list[tuple[str, Picture]]]:
    order = np.random.default_rng(seed).permutation(len(tiles))
    return [tiles[i] for i in order[:shots]], [(label, tiles[i]) for i in order[shots:]]


def _tiles(picture: Image.Image, rows: int, columns: int, name: str) -> Iterator[Picture]:
    """Crops side by side, so that no query shares a pixel with an example."""
    height, width = picture.height // rows, picture.width // columns
    for row in range(rows):
        for column in range(columns):
            box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
            yield image.decode(picture.crop(box), name=f"{name} {row + 1}.{column + 1}")


def _cut(pictures: Iterable[tuple[str, Image.Image]], side: int, shots: int) -> tuple[Support, Queries]:
    """Each picture cut into ``side`` x ``side`` tiles of its class."""
    support: Support = {}
    queries: Queries = []
    for seed, (label, picture) in enumerate(pictures):
        tiles = list(_tiles(picture, side, side, label))
        support[label], held_out = _split(label, tiles, seed, shots)
        queries += held_out
    return support, queries


def _textures() -> StarterSet | None:
    files = {label: path for label, file in TEXTURES if (path := installed("skimage", file)) is not None}
    if len(files) < len(TEXTURES):
        return None
    credit = "CC0Textures (brick, gravel) and LinoLafett (grass), CC0, from scikit-image"

    def make() -> tuple[Support, Queries]:
        return _cut(((label, image.decode(path).rgb) for label, path in files.items()), 4, shots=8)

    return StarterSet("textures", later("Textures: brick, grass, gravel"), credit, make)


def _crops() -> StarterSet | None:
    chosen = [example for example in photographs() if example.name in ("cat", "coffee", "flower", "temple")]
    if len(chosen) < 2:
        return None
    credit = "; ".join(f"{example.name}: {example.credit}" for example in chosen)

    def make() -> tuple[Support, Queries]:
        return _cut(((example.name, example.picture.rgb) for example in chosen), 3, shots=6)

    return StarterSet("photographs", later("Pieces of photographs"), credit, make)


def _digits() -> StarterSet | None:
    if importlib.util.find_spec("sklearn") is None:
        return None
    credit = "E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, CC BY 4.0, from scikit-learn"
    return StarterSet("digits", later("Handwritten digits"), credit, _make_digits)


def _make_digits(shots: int = 6, held_out: int = 2) -> tuple[Support, Queries]:
    """scikit-learn's 8 x 8 handwritten digits, dark on light, enlarged eight times."""
    values, target = _digit_table()
    support: Support = {}
    queries: Queries = []
    for digit in range(10):
        rows = np.flatnonzero(target == digit)[: shots + held_out]
        pictures = [_digit(values[row], f"digit {digit} no. {number + 1}") for number, row in enumerate(rows)]
        support[str(digit)] = pictures[:shots]
        queries += [(str(digit), picture) for picture in pictures[shots:]]
    return support, queries


def _shapes() -> StarterSet:
    return StarterSet("shapes", later("Drawn shapes"), DRAWN_HERE, _make_shapes)


def _make_shapes(shots: int = 6, held_out: int = 4) -> tuple[Support, Queries]:
    """The shapes that Learn trains on, larger and on a calm light ground."""
    kinds = np.repeat(np.arange(len(shapes.KINDS)), shots + held_out)
    drawn = shapes.draw(kinds, 64, np.random.default_rng(0), behind=(0.75, 1.0), place=0.3).permute(0, 2, 3, 1).numpy()
    support: Support = {name: [] for name in shapes.KINDS}
    queries: Queries = []
    for number, (kind, pixels) in enumerate(zip(kinds, drawn, strict=True)):
        name, place = shapes.KINDS[kind], number % (shots + held_out)
        picture = image.decode(Image.fromarray(pixels), name=f"{name} no. {place + 1}")
        if place < shots:
            support[name].append(picture)
        else:
            queries.append((name, picture))
    return support, queries


def _digit_table() -> tuple[np.ndarray, np.ndarray]:
    """Values (N, 8, 8) from 0 to 16 and digits (N,)."""
    path = installed("sklearn", "datasets/data/digits.csv.gz")
    if path:  # importing load_digits takes a second, which the first page would wait for
        table = np.loadtxt(path, delimiter=",")
        return table[:, :-1].reshape(-1, 8, 8), table[:, -1]
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target


def _digit(values: np.ndarray, name: str) -> Picture:
    gray = (255 - values * (255 / 16)).round().astype(np.uint8)  # values are 0..16, ink high
    return image.decode(Image.fromarray(gray).resize((64, 64), Image.Resampling.BICUBIC), name=name)
