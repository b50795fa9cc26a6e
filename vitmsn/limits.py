"""Every bound of the package, one line each; ``VITMSN_<NAME>`` in the environment overrides it.

Bounds exist so that one visitor's input never costs another visitor's answer. They are read once, at import. A bad
value in the environment raises InputError where its bound is first used; the app and the command line ``check`` all of
them before they begin.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vitmsn.errors import InputError

_bad: dict[str, str] = {}  # name of a bound -> what is wrong with its value in the environment


def _bound(name: str, default: int) -> int:
    text = os.environ.get(f"VITMSN_{name}", str(default))
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0
    if value < 1:
        _bad[name] = f"VITMSN_{name} is {text[:40]!r}; it must be a whole number of at least 1: correct or unset it."
    return value


def check() -> None:
    """Raise InputError if the environment holds a bad bound."""
    for sentence in _bad.values():
        raise InputError(sentence)


MIB = 1024 * 1024

# Pictures
MAX_PIXELS = _bound("MAX_PIXELS", 50_000_000)  # of one picture, checked on the header before any decoding
MAX_WEBP_PIXELS = _bound("MAX_WEBP_PIXELS", 30_000_000)  # of one WebP: its decoder holds the pixels four times
MAX_IMAGE_BYTES = _bound("MAX_IMAGE_BYTES", 20 * MIB)  # of one encoded picture
MAX_ASPECT = _bound("MAX_ASPECT", 50)  # longer side / shorter side
DECODING_PIXELS = _bound("DECODING_PIXELS", 50_000_000)  # of all pictures that are decoded at one moment
REQUEST_PIXELS = _bound("REQUEST_PIXELS", 1_200_000_000)  # decoded for one request to the app
MAX_SCANNED_PIXELS = _bound("MAX_SCANNED_PIXELS", 1_000_000_000)  # of one JPEG: pixels times scans
MAX_MISSING_PERCENT = _bound("MAX_MISSING_PERCENT", 5)  # of its pixels that a JPEG cut off at its end may lack
MAX_TIFF_BYTES = _bound("MAX_TIFF_BYTES", 256 * MIB)  # of the values of one TIFF that Pillow does not read
THUMBNAIL_SIDE = _bound("THUMBNAIL_SIDE", 256)  # what a gallery keeps of a picture, in pixels

# Archives
MAX_ARCHIVE_BYTES = _bound("MAX_ARCHIVE_BYTES", 200 * MIB)  # of the zip file itself
MAX_ARCHIVE_ENTRIES = _bound("MAX_ARCHIVE_ENTRIES", 4000)
MAX_UNPACKED_BYTES = _bound("MAX_UNPACKED_BYTES", 512 * MIB)  # of all entries, counted while reading
MAX_COMPRESSION_RATIO = _bound("MAX_COMPRESSION_RATIO", 200)  # unpacked / packed, of one entry
ANY_RATIO_BYTES = _bound("ANY_RATIO_BYTES", 1 * MIB)  # entries up to here may be packed as tightly as they like
ARCHIVE_SECONDS = _bound("ARCHIVE_SECONDS", 60)  # for reading one archive

# Galleries
MAX_CLASSES = _bound("MAX_CLASSES", 50)
MAX_EXAMPLES = _bound("MAX_EXAMPLES", 2000)  # of one visitor, all classes together
MAX_QUERIES = _bound("MAX_QUERIES", 200)  # pictures to predict in one go
MAX_NAME_LENGTH = _bound("MAX_NAME_LENGTH", 64)  # characters of a class or file name
MAX_NAME_CODE_POINTS = _bound("MAX_NAME_CODE_POINTS", 320)  # of a name, accents and joiners included
MAX_MARKS = _bound("MAX_MARKS", 4)  # accents stacked on one letter; more paint over the lines above
MAX_JOINED = _bound("MAX_JOINED", 8)  # emoji joined into one sign: a family has four
GALLERY_BYTES = _bound("GALLERY_BYTES", 64 * MIB)  # thumbnails and embeddings of one visitor

# Models
MAX_CHECKPOINT_BYTES = _bound("MAX_CHECKPOINT_BYTES", 4096 * MIB)
RESUMED_BYTES = _bound("RESUMED_BYTES", 1 * MIB)  # from here a download that was cut goes on where it stopped
MAX_HEADER_BYTES = _bound("MAX_HEADER_BYTES", 32 * MIB)  # of a checkpoint's table of tensors, or of its JSON
MAX_LABELS = _bound("MAX_LABELS", 100_000)  # of a config: ImageNet-21k has 21,841
MAX_MODELS = _bound("MAX_MODELS", 2)  # in memory at once, for all visitors
OPEN_SECONDS = _bound("OPEN_SECONDS", 300)  # a visitor waits for a model that is downloaded or read
OPEN_WAITING = _bound("OPEN_WAITING", 8)  # visitors who wait for one model
MAX_TOKENS = _bound("MAX_TOKENS", 4096)  # patches of one picture
CACHE_BYTES = _bound("CACHE_BYTES", 256 * MIB)  # embeddings and tokens remembered by one encoder
MAX_BATCH = _bound("MAX_BATCH", 64)  # pictures in one forward
ZERO_GPU_GFLOPS = _bound("ZERO_GPU_GFLOPS", 200)  # of one forward, from which it borrows a ZeroGPU where there is one
BATCH_PIXELS = _bound("BATCH_PIXELS", 50_000_000)  # of decoded pictures, above which a batch ends early

# Options
MAX_PAINT_LENGTH = _bound("MAX_PAINT_LENGTH", 4000)  # characters of a painted mask in words
MAX_DRAWS = _bound("MAX_DRAWS", 64)  # masks of one picture in one command
MAX_COMPARED = _bound("MAX_COMPARED", 64)  # maps side by side, or in one file
MAX_K = _bound("MAX_K", 50)  # neighbors that vote
MAX_NEIGHBORS = _bound("MAX_NEIGHBORS", 50)  # that tie a point of a map
MAX_CAUTION = _bound("MAX_CAUTION", 30)  # percent of one's own examples that "none of these" may cost

# The app
MAX_UPLOAD_BYTES = _bound("MAX_UPLOAD_BYTES", 256 * MIB)  # of one request's body
MAX_FILES = _bound("MAX_FILES", 1000)  # of one upload; Gradio's clients send as many at once
MAX_UPLOADS_BYTES = _bound("MAX_UPLOADS_BYTES", 4096 * MIB)  # of all uploads on disk together
MAX_VISITORS = _bound("MAX_VISITORS", 200)  # whose galleries are kept at once
VISIT_SECONDS = _bound("VISIT_SECONDS", 3600)  # a visitor's pictures are dropped after so long without a click
LEAVE_SECONDS = _bound("LEAVE_SECONDS", 1800)  # after closing the page: a phone that slept may come back
UPLOAD_SECONDS = _bound("UPLOAD_SECONDS", 300)  # an upload's file stays on disk after it was read
UNUSED_SECONDS = _bound("UNUSED_SECONDS", 600)  # an upload that nothing has read stays on disk
VISITS_BYTES = _bound("VISITS_BYTES", 1024 * MIB)  # pictures and galleries of all visitors together
PICTURE_SIDE = _bound("PICTURE_SIDE", 1600)  # longer side, in pixels, of the one picture a visit keeps
SHOWN_SIDE = _bound("SHOWN_SIDE", 800)  # longer side, in pixels, of a picture sent to the page
MAX_JSON_BYTES = _bound("MAX_JSON_BYTES", 1 * MIB)  # of one request that carries no file
MAX_TOOL_BYTES = _bound("MAX_TOOL_BYTES", 4 * MIB)  # of one request of an agent, with its pictures as text
MAX_TEXT_LENGTH = _bound("MAX_TEXT_LENGTH", 20_000)  # characters of one text of a request
MESSAGE_LENGTH = _bound("MESSAGE_LENGTH", 1000)  # characters of one message to a visitor
LOG_LINES = _bound("LOG_LINES", 60)  # written in a minute about requests that were refused
SESSION_LENGTH = _bound("SESSION_LENGTH", 64)  # letters of a session's name; Gradio's own have 11
LINK_LENGTH = _bound("LINK_LENGTH", 2000)  # characters of an address that are read
FRAME_LENGTH = _bound("FRAME_LENGTH", 200_000)  # letters of one camera frame
REMEMBERED_VISITS = _bound("REMEMBERED_VISITS", 10_000)  # keys of visits that are over, so that a page can be told
QUEUE_LENGTH = _bound("QUEUE_LENGTH", 64)  # short jobs waiting before a new one is turned away
SLOW_QUEUE_LENGTH = _bound("SLOW_QUEUE_LENGTH", 16)  # costly and long jobs waiting
VISITOR_JOBS = _bound("VISITOR_JOBS", 12)  # of one visitor, waiting or running
VISITOR_SLOW_JOBS = _bound("VISITOR_SLOW_JOBS", 4)  # of these, costly and long ones
ADDRESS_JOBS = _bound("ADDRESS_JOBS", 48)  # of one address, which a school or a company may share
ADDRESS_SLOW_JOBS = _bound("ADDRESS_SLOW_JOBS", 12)  # of these, costly and long ones
VISITOR_EVENTS = _bound("VISITOR_EVENTS", 240)  # of one visitor in a minute, of those that skip the queue
ADDRESS_EVENTS = _bound("ADDRESS_EVENTS", 3000)  # of one address in a minute, of the same
RETRY_SECONDS = _bound("RETRY_SECONDS", 5)  # after which a client that was turned away is asked to come back
ANSWER_SECONDS = _bound("ANSWER_SECONDS", 600)  # an answer that nobody fetches is kept
JOB_SECONDS = _bound("JOB_SECONDS", 120)  # for one long job (a zip, a batch, a map)
LIVE_SECONDS = _bound("LIVE_SECONDS", 120)  # for one visitor's live training
LIVE_WAITING = _bound("LIVE_WAITING", 8)  # visitors in line for it

# Class mode
CLASS_PHONES = _bound("CLASS_PHONES", 60)  # that play at once
CLASS_TEACHERS = _bound("CLASS_TEACHERS", 4)  # pages that show the class to everyone
CLASS_NAME_LENGTH = _bound("CLASS_NAME_LENGTH", 20)  # letters of a nickname
CLASS_MOVES = _bound("CLASS_MOVES", 240)  # of one phone in a minute; each is one forward
CLASS_CONNECTED_SECONDS = _bound("CLASS_CONNECTED_SECONDS", 6)  # a phone counts as connected after it last asked
CLASS_AWAY_SECONDS = _bound("CLASS_AWAY_SECONDS", 300)  # then a phone that sleeps gives its place to a new one

for _name in _bad:
    del globals()[_name]

if not TYPE_CHECKING:  # a checker would take every name for a bound

    def __getattr__(name: str) -> int:
        raise InputError(_bad[name]) if name in _bad else AttributeError(f"no bound is named {name}")
