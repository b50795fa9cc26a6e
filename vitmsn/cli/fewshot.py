"""`fewshot train` and `fewshot predict`: classes from a few examples."""

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


def lesson_of(gallery: Gallery, encoder: Encoder, caution: float) -> Lesson:
    """Learn from a gallery with the settings saved in it. caution: as the command line says, or the gallery."""
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
    lesson = lesson_of(gallery, encoder, options.caution)
    lines = [line for line in (lesson.sentence(), lesson.near_copies()) if line]
    if lesson.reason:
        lines.append(f"{lesson.method}: {lesson.reason}")
    if lesson.pixels is not None and lesson.pixels.total and lesson.method != "pixels":
        lines.append(f"raw pixels: {percent(lesson.pixels.accuracy)} right")
    with suppress(FewShotError):  # too few examples for a curve, as the sentence above says
        lines.append(lesson.curve().sentence())
    linear = export.linear_lesson(lesson, gallery, encoder) if options.checkpoint else None
    if options.out:
        bundle.save(gallery, write(options.out))
    if linear is not None:
        export.save_checkpoint(options.checkpoint, encoder, linear.classifier)
        differs = f" instead of {lesson.method}: {linear.sentence()}" if linear.method != lesson.method else "."
        lines.append(f"{options.checkpoint}: {linear.method}{differs} {export.CHANGES}")
    data = {"model": encoder.name, **lesson.to_dict(), "said": lines, "out": options.out}
    data |= {"checkpoint": options.checkpoint, "checkpoint_method": linear.method if linear else None}
    data |= {"skipped": [{"file": one.name, "reason": one.reason} for one in added.skipped], "notes": [*added.notes]}
    rows = [
        (one["label"], one["examples"], one["different"], "" if one["accuracy"] is None else percent(one["accuracy"]))
        for one in data["classes"]
    ]
    return Result(data, ("class", "examples", "different", "right when left out"), rows, lines)


def fewshot_predict(options: Options) -> Result:
    from vitmsn import bundle
    from vitmsn.gallery import raw_pixels

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    gallery = bundle.load(options.bundle, encoder, re_embed=options.re_embed, progress=Bar("reading the set"))
    kept = gallery.settings.get("caution", 0.05)
    caution = options.caution if options.caution is not None else kept if isinstance(kept, float) else 0.05
    lesson = lesson_of(gallery, encoder, caution)
    found, rows = [], []
    for names, pictures in inputs.batches():
        said = lesson.answer(encoder.embed(pictures), raw_pixels(pictures))
        for name, one in zip(names, said, strict=True):
            told = one.to_dict(lesson)
            found.append({"file": name, **told})
            near, far = told["neighbors"][0], "" if one.distance is None else f"{one.distance:.2f}"
            beside = f"{near['label']}/{near['file']}", f"{near['similarity']:.2f}"
            rows.append((name, one.label or one.reason, one.closest, percent(one.probability), far, *beside))
    data = {"model": encoder.name, **lesson.to_dict(), "predictions": found}
    header = ("file", "answer", "closest", "probability", "distance", "most similar example", "similarity")
    result = Result({**data, "skipped": inputs.skipped}, header, rows, worked=bool(found))
    if options.out:
        write_table(result, options.out)
    return result
