"""Downloads: the set as one file that opens again, a checkpoint that transformers runs, embeddings as a table.

Files are made on request in Gradio's upload folder, and are deleted with the uploads, minutes later.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder
from markupsafe import Markup

from vitmsn import bundle, export, fewshot
from vitmsn.encoder import Encoder
from vitmsn.errors import FewShotError
from vitmsn.ui.app import App
from vitmsn.ui.fewshot.controls import FewShotControls
from vitmsn.ui.locale import later, tr, tr_said
from vitmsn.ui.shared import html
from vitmsn.ui.shared.controls import Controls
from vitmsn.ui.shared.scripts import run, script
from vitmsn.ui.shared.workspace import Workspace, learn, opened
from vitmsn.ui.visits import Call

if TYPE_CHECKING:
    from vitmsn.fewshot import Lesson

PYTHON = (
    "from vitmsn import Encoder, bundle, fewshot, gallery, image",
    "encoder = Encoder.from_pretrained()  # or the model that is chosen above",
    'examples = bundle.load("few-shot.zip", encoder)',
    "lesson = fewshot.learn(examples.X, examples.y, feature_mean=encoder.feature_mean, pixels=examples.pixels)",
    'query = image.decode("query.jpg")',
    "print(lesson.answer(encoder.embed([query]), gallery.raw_pixels([query])))",
    "",
    "# the same on the command line",
    "# python -m vitmsn fewshot predict few-shot.zip query.jpg --json",
    "",
    "# the downloaded model, unpacked",
    "from transformers import pipeline",
    ('print(pipeline("image-classification", model="checkpoint")("query.jpg"))'),
)
FETCH = script(__file__, "downloads.js")
KINDS = ("bundle", "checkpoint", "embeddings")
BUTTONS = (
    later("Save set (.zip)"),
    later("Download model (.zip)"),
    later("Embeddings (.csv)"),
)  # in the order of KINDS
ABOUT = later(
    "**Saved set**: examples, embeddings and settings in one zip, to open here, in Python and on the command line. "
    "**Model**: the model with what it learned as its last layer, for transformers. "
    "{changes} **Embeddings**: one row of numbers for each example."
)


def make(call: Call, kind: str, method: str, k: int, caution: float, temperature: float = 0.07) -> tuple[Path, str]:
    """(path of the file, message about it). The folder's name is a secret, since files are served by their path."""
    with opened(call) as (workspace, encoder):
        if not len(workspace.gallery):
            raise FewShotError(tr("There is nothing to download yet; add pictures to two classes."))
        folder = Path(get_upload_folder()) / secrets.token_hex(16)
        folder.mkdir(parents=True)
        if kind == "bundle":
            workspace.gallery.settings = {"method": method, "k": k, "temperature": temperature, "caution": caution}
            workspace.saved = workspace.version
            return bundle.save(workspace.gallery, folder / "few-shot.zip"), ""
        if kind == "embeddings":
            file = folder / "embeddings.csv"
            file.write_text(export.embeddings_csv(workspace.gallery), encoding="utf-8-sig", newline="")
            return file, ""
        lesson = learn(workspace.gallery, encoder.feature_mean, method, k, caution, temperature)
        linear = export.linear_lesson(lesson, workspace.gallery, encoder)
        said = ""
        if linear.method != lesson.method:
            said = tr(
                "Raw pixels cannot be a layer of the model; the checkpoint holds {method} instead: ",
                method=linear.method,
            )
            said += tr_said(linear.sentence())
        return export.checkpoint_zip(encoder, linear.classifier, folder / "checkpoint.zip"), said


def beside(workspace: Workspace, encoder: Encoder, lesson: Lesson) -> Markup:
    """The classifier in the checkpoint and its accuracy, if it is not the one the page learned; else ""."""
    if lesson.method == "knn":
        return html.hint(tr("A checkpoint cannot hold k nearest examples; choose another classifier to download one."))
    if lesson.linear:
        return Markup()
    kept = workspace.kept.get("linear")
    linear = kept if isinstance(kept, fewshot.Lesson) else export.linear_lesson(lesson, workspace.gallery, encoder)
    workspace.kept["linear"] = linear
    return html.hint(
        tr(
            "The checkpoint holds {method}, because raw pixels cannot be a layer of the model: {sentence}",
            method=linear.method,
            sentence=tr_said(linear.sentence()),
        )
    )


def build(app: App, controls: Controls[FewShotControls]) -> None:
    """The buttons, built where this is called."""
    line = app.notice()
    with gr.Row(elem_classes="msn-takeaway"):
        buttons = [
            gr.Button(tr(words), elem_classes="msn-quiet-button", elem_id=f"fewshot-{kind}")
            for kind, words in zip(KINDS, BUTTONS, strict=True)
        ]
    with gr.Accordion(tr("What these are"), open=False, elem_id="fewshot-downloads-fold"):
        gr.Markdown(tr(ABOUT, changes=tr_said(export.CHANGES)))
        gr.HTML(html.in_python(*PYTHON))
    file = gr.DownloadButton(tr("Download"), visible="hidden", elem_id="fewshot-file")
    for kind, button in zip(KINDS, buttons, strict=True):

        def prepare(call: Call, asked: FewShotControls, kind: str = kind) -> Any:
            path, call.message = make(call, kind, *asked.checked())
            app.visitors.read_upload(path)
            return gr.update(value=str(path))

        made = app.on(button.click, prepare, [controls], [file], notice=line, show_progress_on=[button])
        made.success(None, js=run(FETCH, kind), api_visibility="private")
