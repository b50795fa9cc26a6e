"""The gallery that the page compares with: pieces of photographs from installed packages, embedded once per model.

Pictures on the page come from one sheet (`SHEET`), which the browser loads once: `strip` shows some of its squares.
"""

from __future__ import annotations

import io
import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from markupsafe import Markup
from PIL import Image

from vitmsn import image
from vitmsn.encoder import Encoder
from vitmsn.errors import ImageError
from vitmsn.image import Picture
from vitmsn.nearest import NearPicture, PictureIndex
from vitmsn.ui.locale import later, tr
from vitmsn.ui.shared import examples, html

# package, file, what it shows, credit
SOURCES = (
    ("skimage", "data/chelsea.png", later("tabby cat"), "Stéfan van der Walt, CC0"),
    ("skimage", "data/coffee.png", later("cup of espresso"), "Rachel Michetti, CC0"),
    ("sklearn", "datasets/images/flower.jpg", later("dahlia"), "vultilion, CC BY 2.0"),
    ("sklearn", "datasets/images/china.jpg", later("Chinese temple"), "danielbuechele, CC BY 2.0"),
    ("skimage", "data/rocket.jpg", later("rocket at launch"), "SpaceX, public domain"),
    ("skimage", "data/astronaut.png", later("astronaut"), "NASA, public domain"),
    ("skimage", "data/camera.png", later("photographer"), "Lav Varshney, CC0"),
    ("skimage", "data/horse.png", later("horse, drawn"), "Andreas Preuss, CC0"),
    ("gradio", "media_assets/images/lion.jpg", later("lion"), "from gradio"),
    ("gradio", "media_assets/images/cheetah1.jpg", later("cheetah"), "from gradio"),
    ("gradio", "media_assets/images/cheetah.jpg", later("running cheetah"), "from gradio"),
    ("gradio", "media_assets/images/tower.jpg", later("Eiffel Tower"), "from gradio"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", later("Grace Hopper"), "U.S. Navy, public domain"),
    ("skimage", "data/motorcycle_left.png", later("motorcycle"), "Middlebury 2014 stereo dataset"),
    ("skimage", "data/brick.png", later("brick wall"), "CC0Textures, CC0"),
    ("skimage", "data/grass.png", later("grass"), "LinoLafett, CC0"),
    ("skimage", "data/gravel.png", later("gravel"), "CC0Textures, CC0"),
    ("skimage", "data/coins.png", later("Greek coins"), "Brooklyn Museum"),
    ("skimage", "data/moon.png", later("surface of the moon"), "NASA, public domain"),
    ("skimage", "data/hubble_deep_field.jpg", later("galaxies"), "NASA, public domain"),
    ("skimage", "data/retina.jpg", later("retina of an eye"), "Mikael Häggström, CC0"),
    ("skimage", "data/ihc.png", later("stained tissue"), "from scikit-image"),
    ("skimage", "data/page.png", later("printed page"), "from scikit-image"),
    ("skimage", "data/color.png", later("color wheel"), "from scikit-image"),
)
PIECES = 12  # of each photograph: its middle, then pieces drawn with a fixed seed
LEAST, MOST = 0.25, 0.8  # side of a piece, as a share of the photograph's shorter side
SIDE = 96  # pixels of a tile on the sheet
LARGE = 192  # pixels of a piece that is shown alone; what models see is cut from it
COLUMNS = 24
SHEET = "/gallery-pictures.webp"
WORK = 450e9  # weights times tokens that embedding the gallery may cost; larger models compare with fewer pictures
FEWEST = 20  # below this many pictures there is nothing to find

_indexes: WeakKeyDictionary[Encoder, PictureIndex] = WeakKeyDictionary()
_locks: WeakKeyDictionary[Encoder, threading.Lock] = WeakKeyDictionary()
_lock = threading.Lock()  # guards both tables


@lru_cache(maxsize=1)
def pieces() -> tuple[Picture, ...]:
    """The pictures of the gallery: the middle of every photograph first, then one more piece of each in turn."""
    found = []
    for number, (package, file, title, _) in enumerate(SOURCES):
        path = examples.installed(package, file)
        try:
            if path:
                photograph = image.decode(path).rgb
                found.append(list(_cut(photograph, title, np.random.default_rng(number))))
        except ImageError:
            continue  # a damaged file loses its pieces, not the page
    if not found:  # a machine without any of the packages' pictures
        only = examples.photographs()[0]
        found.append(list(_cut(only.picture.rgb, only.title.lower(), np.random.default_rng(0))))
    return tuple(piece for turn in zip(*found, strict=True) for piece in turn)


def _cut(photograph: Image.Image, title: str, rng: np.random.Generator) -> Iterator[Picture]:
    width, height = photograph.size
    shorter = min(width, height)
    for number in range(PIECES):
        side = shorter if number == 0 else int(shorter * rng.uniform(LEAST, MOST))
        left, top = (width - side) // 2, (height - side) // 2
        if number:
            left, top = (int(rng.integers(0, most + 1)) for most in (width - side, height - side))
        box = (left, top, left + side, top + side)
        yield image.decode(photograph.resize((LARGE, LARGE), Image.Resampling.BICUBIC, box), name=title)


def credits() -> str:
    """Who made the photographs, in one line."""
    return "; ".join(f"{tr(title)}: {credit}" for _, _, title, credit in SOURCES)


# ---------------------------------------------------------------------------------------------------- nearest pictures


def index(encoder: Encoder, progress: Callable[[int, int], None] | None = None) -> PictureIndex | None:
    """The gallery as this model sees it, embedded on first use; None for a model too large for that."""
    many = _affordable(encoder)
    if many < FEWEST:
        return None
    with _lock:
        mine = _locks.setdefault(encoder, threading.Lock())
    with mine:  # a second visitor waits for the first one's result
        with _lock:
            known = _indexes.get(encoder)
        if known is None:
            known = PictureIndex(encoder, pieces()[:many], progress=progress)
            with _lock:
                _indexes[encoder] = known
        return known


def _affordable(encoder: Encoder) -> int:
    """How many pictures of the gallery this model may embed for the page."""
    weights = sum(parameter.numel() for parameter in encoder.model.parameters())
    return min(len(pieces()), int(WORK / (weights * (1 + math.prod(encoder.grid())))))


# ------------------------------------------------------------------------------------------------------------ the page


@lru_cache(maxsize=1)
def sheet() -> bytes:
    """All pictures of the gallery on one WebP, as `strip` expects them."""
    many = pieces()
    whole = Image.new("RGB", (COLUMNS * SIDE, -(-len(many) // COLUMNS) * SIDE))
    for place, piece in enumerate(many):
        small = piece.rgb.resize((SIDE, SIDE), Image.Resampling.BOX)
        whole.paste(small, (place % COLUMNS * SIDE, place // COLUMNS * SIDE))
    buffer = io.BytesIO()
    whole.save(buffer, "WEBP", quality=72, method=2)
    return buffer.getvalue()


def strip(pictures: Sequence[NearPicture], what: str, ringed: Collection[int] = (), across: int = 0) -> Markup:
    """Pictures of the gallery in a row of squares.

    Args:
        what: what they are, for screen readers, which then hear the names: "what: 3 × tabby cat, lion".
        ringed: places in the gallery of pictures that get a ring.
        across: pictures in a row; 0 is all.
    """
    names = Counter(picture.name for picture in pictures)
    heard = ", ".join(f"{many} × {tr(name)}" if many > 1 else tr(name) for name, many in names.items())
    if ringed:
        heard += tr("; ringed: {many}", many=sum(picture.place in ringed for picture in pictures))
    tiles = Markup().join(tile(picture.place, picture.place in ringed) for picture in pictures)
    return Markup('<span class="msn-tiles" role="img" aria-label="{}" style="--tiles:{}">{}</span>').format(
        html.text(f"{what}: {heard}", 300), across or len(pictures), tiles
    )


def tile(place: int, ringed: bool = False) -> Markup:
    """One picture of the sheet as a square, without a text for screen readers."""
    row, column = divmod(place, COLUMNS)
    rows = -(-len(pieces()) // COLUMNS)
    return Markup(
        '<i class="msn-tile{}" style="background-size:{}% {}%;background-position:{:.3f}% {:.3f}%"></i>'
    ).format(
        " msn-ringed" if ringed else "",
        100 * COLUMNS,
        100 * rows,
        100 * column / (COLUMNS - 1),
        100 * row / max(rows - 1, 1),
    )
