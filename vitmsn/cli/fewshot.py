"""Learn on frozen embeddings: classes from a few examples, maps of similar pictures, and how much a model knows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vitmsn.cli.inputs import Inputs, Options, load_encoder
from vitmsn.cli.output import Bar, Result, percent, say, write, write_table
from vitmsn.errors import InputError

if TYPE_CHECKING:
    from vitmsn.encoder import Encoder
    from vitmsn.fewshot import Lesson
    from vitmsn.gallery import Gallery


# --- fewshot -------------------------------------------------------------------------------------------------------


def _lesson(gallery: Gallery, encoder: Encoder, caution: float) -> Lesson:
    """What a gallery teaches with the settings saved in it."""
    from vitmsn import fewshot

    method, k = gallery.settings.get("method", "auto"), gallery.settings.get("k", 5)
    temperature = gallery.settings.get("temperature", 0.07)
    if method not in fewshot.METHODS or not isinstance(k, int) or not isinstance(temperature, (int, float)):
        raise InputError(f"The bundle asks for the classifier {method!r}; known are {', '.join(fewshot.METHODS)}.")
    return fewshot.learn(
        gallery.X,
        gallery.y,
        method,
        feature_mean=encoder.feature_mean,
        k=k,
        temperature=temperature,
        caution=caution,
        pixels=gallery.pixels,
        examples=gallery.enabled,
    )


def fewshot_train(options: Options) -> Result:
    from vitmsn import bundle, export
    from vitmsn.archive import read_folder, read_zip
    from vitmsn.errors import FewShotError
    from vitmsn.gallery import Gallery

    encoder = load_encoder(options)
    gallery = Gallery(encoder)
    gallery.settings = {name: getattr(options, name) for name in ("method", "k", "temperature", "caution")}
    read = read_folder if Path(options.examples).is_dir() else read_zip
    added = gallery.extend(read(options.examples), encoder, Bar("examples"))
    for note in added.notes:
        say(note)
    for skipped in added.skipped:
        say(f"skipped {skipped.name}: {skipped.reason}")
    lesson = _lesson(gallery, encoder, options.caution)
    judged, lines = lesson.judged, [lesson.judged.sentence()]
    if lesson.reason:
        lines.append(f"{lesson.method}: {lesson.reason}")
    if lesson.pixels is not None and lesson.pixels.total and lesson.method != "pixels":
        lines.append(f"raw pixels: {percent(lesson.pixels.accuracy)} right")
    with suppress(FewShotError):  # too few examples to draw one: the sentence above says so already
        lines.append(lesson.curve().sentence())
    linear = export.linear_lesson(lesson, gallery, encoder) if options.checkpoint else None
    if options.out:
        bundle.save(gallery, write(options.out))
    if linear is not None:
        export.save_checkpoint(options.checkpoint, encoder, linear.classifier)
        lines.append(f"{options.checkpoint}: {linear.method}. {export.CHANGES}")
    shares = [None if share != share else round(share, 6) for share in judged.class_accuracy.tolist()]  # NaN: alone
    counts = [gallery.counts[label] for label in judged.classes]
    classes = [
        {"label": str(label), "examples": count, "accuracy": share}
        for label, count, share in zip(judged.classes, counts, shares, strict=True)
    ]
    left_out = {"right": judged.right, "total": judged.total, "sentence": judged.sentence()}
    left_out["accuracy"] = round(judged.accuracy, 6) if judged.total else None
    data = {"model": encoder.name, "method": lesson.method, "classes": classes, "leave_one_out": left_out}
    data |= {"said": lines, "out": options.out, "checkpoint": options.checkpoint}
    data |= {"skipped": [{"file": one.name, "reason": one.reason} for one in added.skipped], "notes": [*added.notes]}
    right = ["" if share is None else percent(share) for share in shares]
    rows = list(zip(judged.classes, counts, right, strict=True))
    return Result(data, ("class", "examples", "right when left out"), rows, lines)


def fewshot_predict(options: Options) -> Result:
    from vitmsn import bundle
    from vitmsn.gallery import raw_pixels

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    gallery = bundle.load(options.bundle, encoder, re_embed=options.re_embed, progress=Bar("embedding again"))
    kept = gallery.settings.get("caution", 0.05)
    caution = options.caution if options.caution is not None else kept if isinstance(kept, float) else 0.05
    lesson = _lesson(gallery, encoder, caution)
    found, rows = [], []
    for names, pictures in inputs.batches():
        said = lesson.answer(encoder.embed(pictures), raw_pixels(pictures))
        for name, one in zip(names, said, strict=True):
            near = [
                {"file": lesson.examples[i].name, "label": lesson.examples[i].label, "similarity": round(cosine, 6)}
                for i, cosine in one.neighbours
            ]
            answer = {"file": name, "label": one.label, "confidence": round(one.confidence, 6)}
            found.append(answer | {"closest": one.closest, "neighbours": near})
            beside = f"{near[0]['label']}/{near[0]['file']}", f"{near[0]['similarity']:.2f}"
            rows.append((name, one.label or "none of these", percent(one.confidence), *beside))
    data = {"model": encoder.name, "method": lesson.method, "classes": lesson.classes, "predictions": found}
    header = ("file", "answer", "confidence", "most similar example", "similarity")
    result = Result({**data, "skipped": inputs.skipped}, header, rows, worked=bool(found))
    if options.out:
        write_table(result, options.out)
    return result
