"""Pictures decoded in batches, so that many large ones are never in memory together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar, cast

import torch

from vitmsn import limits
from vitmsn.errors import ImageError
from vitmsn.image.decode import ImageSource, Picture, decode

Key = TypeVar("Key")
Item = TypeVar("Item")

MOST_THREADS = 8  # that decode; beyond, Python's own share of the work is what they wait for


@dataclass(frozen=True)
class Batch(Generic[Key]):
    """Some decoded pictures, each with its key. ``done``: sources read so far, those refused included."""

    keys: list[Key]
    pictures: list[Picture]
    done: int


def batches(
    sources: Iterable[tuple[Key, ImageSource]],
    refused: Callable[[Key, ImageError], object] | None = None,
    *,
    name: Callable[[Key], str] | None = None,
    size: int | None = None,
    most: int | None = None,
    threads: int = 1,
) -> Iterator[Batch[Key]]:
    """Decode pictures in their order, ``size`` together, or fewer when they exceed ``limits.BATCH_PIXELS``.

    Args:
        sources: (key, whatever ``decode`` takes); the next is read when its batch is asked for.
        refused: called for each undecodable picture, which is skipped; without it the error is raised.
        name: gives the name of a key's picture in messages; by default as ``decode`` does.
        most: longer side in pixels to which larger pictures are reduced, as by ``decode``.
        size: at most, and by default, ``limits.MAX_BATCH``.
        threads: that decode; several are ahead of the caller, by no more pictures as large as those so far than a batch
            may have.

    Yields:
        Batches; the last has no picture where only refused ones were left.

    Raises:
        ImageError: a picture that cannot be decoded, without ``refused``.
    """
    size = max(1, min(size or limits.MAX_BATCH, limits.MAX_BATCH))
    keys: list[Key] = []
    pictures: list[Picture] = []
    done = told = pixels = 0

    def decoded(key: Key, source: ImageSource) -> Picture:
        return decode(source, name=None if name is None else name(key), most=most)

    with closing(_decoding(sources, decoded, threads)) as coming:
        for done, (key, give) in enumerate(coming, start=1):
            try:
                picture = give()
            except ImageError as error:
                if refused is None:
                    raise
                refused(key, error)
                continue
            keys.append(key)
            pictures.append(picture)
            pixels += picture.rgb.width * picture.rgb.height
            if len(pictures) == size or pixels > limits.BATCH_PIXELS:
                yield Batch(keys, pictures, done)
                keys, pictures, told, pixels = [], [], done, 0
    if done > told:
        yield Batch(keys, pictures, done)


def _decoding(
    sources: Iterable[tuple[Key, ImageSource]], decoded: Callable[[Key, ImageSource], Picture], threads: int
) -> Generator[tuple[Key, Callable[[], Picture]], None, None]:
    """Each key, and what gives its picture or raises why there is none; several threads are ahead of the caller."""
    if threads == 1:
        for key, source in sources:
            yield key, partial(decoded, key, source)
        return
    pool, coming = ThreadPoolExecutor(threads, thread_name_prefix="decode"), deque[tuple[Key, Future[Picture]]]()
    together, largest = 1, 1  # pictures in memory, and pixels of one: as many as a batch may have, or fewer
    try:
        for key, source in sources:
            coming.append((key, pool.submit(copy_context().run, decoded, key, source)))
            while len(coming) >= together:
                first, future = coming.popleft()
                yield first, future.result
                if future.exception() is None:
                    largest = max(largest, math.prod(future.result().rgb.size))
                    together = max(1, min(2 * threads, limits.BATCH_PIXELS // largest))
        for key, future in coming:
            yield key, future.result
    finally:
        pool.shutdown(cancel_futures=True)


def decoding_threads() -> int:
    """Half of those that torch computes with: of two, a second one would take from the forward what it gives."""
    return max(1, min(torch.get_num_threads() // 2, MOST_THREADS))


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the one before it is used: pictures are decoded during a forward.

    What the items call (``refused``, a progress) is called in that thread, in the caller's context. Errors come in
    their place. Closing the iterator, or leaving its loop, waits for the item that is being made.
    """
    coming, context, end = iter(items), copy_context(), object()

    def make() -> Item | object:
        return next(coming, end)

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        following = thread.submit(context.run, make)
        while (item := following.result()) is not end:
            following = thread.submit(context.run, make)
            yield cast(Item, item)
