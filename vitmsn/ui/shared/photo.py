"""Pictures on the page: uploads arrive as files for our decoder, and results are sent inside the page."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import gradio as gr
import PIL.Image
from gradio.component_meta import ComponentMeta
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder

from vitmsn import image, limits
from vitmsn.errors import ImageError, InputError
from vitmsn.ui.locale import tr
from vitmsn.ui.shared import examples, html
from vitmsn.ui.visits import Call, Visit


class _AsSent:
    """Pass the uploaded file's path on unchanged, and show pictures without writing files.

    Gradio would open the file with every format Pillow knows and no cap on pixels; only our decoder may open it.
    """

    def preprocess(self, payload: Any) -> str | None:
        if payload is None:
            return None
        if not payload.path or (payload.url or "").startswith("data:"):
            raise gr.Error("Send the picture as a file upload; pictures inside the request are not accepted.")
        return str(payload.path)

    def postprocess(self, value: PIL.Image.Image | None) -> ImageData | None:
        if value is None:
            return None
        shown = value.copy()
        shown.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
        return ImageData(url=html.data_url(shown), orig_name="picture.webp", mime_type="image/webp")


# `gr.Image` with the two methods above. A subclass, because Gradio makes the component again from its class on updates.
# It is made without Gradio's metaclass, which would write a stub file beside the source.
Photo = cast("type[gr.Image]", ABCMeta.__new__(ComponentMeta, "Image", (_AsSent, gr.Image), {"__module__": __name__}))


class _Paths:
    """Pass the paths of uploaded files on. Gradio's own method makes an empty file for each of them."""

    def _process_single_file(self, f: Any) -> str:
        return str(f.path)


# `gr.File` and `gr.UploadButton` with that method, made as `Photo` is.
Files = cast("type[gr.File]", ABCMeta.__new__(ComponentMeta, "File", (_Paths, gr.File), {"__module__": __name__}))
UploadButton = cast(
    "type[gr.UploadButton]",
    ABCMeta.__new__(ComponentMeta, "UploadButton", (_Paths, gr.UploadButton), {"__module__": __name__}),
)


def sent(call: Call) -> list[str]:
    """The paths of pictures that the page uploaded: untrusted, so only files in the upload folder count."""
    paths, folder = call.chosen("paths"), Path(get_upload_folder()).resolve()
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths) or not paths:
        raise InputError(tr("No pictures came; choose some, or drop them on the page."))
    if len(paths) > limits.MAX_EXAMPLES:
        raise InputError(
            tr(
                "These are {many} files and {most} go at once; send fewer.",
                many=len(paths),
                most=limits.MAX_EXAMPLES,
            )
        )
    if any("\0" in path or not Path(path).resolve().is_relative_to(folder) for path in paths):
        raise InputError(tr("Only pictures sent through this page are taken; choose them, or drop them on the page."))
    return paths


def portrait(visit: Visit) -> dict[str, Any]:
    """The update that shows the visitor's picture, or none, with its alternative text."""
    if visit.picture is None:
        return gr.update(value=None, alt_text=tr("No picture"))
    if visit.example:
        title = tr(examples.by_name(visit.example).title)
    else:
        title = tr("Your picture, {name}", name=visit.picture.name)
    return gr.update(value=visit.picture.rgb, alt_text=title)


def check_total(paths: Sequence[str]) -> None:
    """Raise InputError if these uploads have more pixels together than one request may decode, by their headers."""
    image.check_total(paths, limits.PICTURE_SIDE)


def read_picture(path: str) -> image.Picture:
    """Decode an upload, reduced to `limits.PICTURE_SIDE` at once, so that large ones never fill the memory.

    Raises a special error when the file is gone (a page can be inactive for longer than uploads are kept).
    """
    if not Path(path).is_file():
        raise ImageError(tr("That upload is no longer here; add the picture again."))
    return image.decode(Path(path), most=limits.PICTURE_SIDE)
