"""Learn on frozen embeddings: classes from a few examples, maps of similar pictures, and how much a model knows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitmsn.cli.inputs import CHUNK, Inputs, Options, load_encoder
from vitmsn.cli.output import Answer, Bar, percent, save_picture, say, write, write_table
from vitmsn.errors import ImageError, InputError

if TYPE_CHECKING:
    import numpy as np

    from vitmsn.data import DataSet
    from vitmsn.encoder import Encoder
    from vitmsn.fewshot import Lesson
    from vitmsn.gallery import Gallery
    from vitmsn.image import Picture


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


def fewshot_train(options: Options) -> Answer:
    from vitmsn import bundle, export
    from vitmsn.archive import read_folder, read_zip
    from vitmsn.errors import FewShotError
    from vitmsn.gallery import Gallery

    encoder = load_encoder(options, tuned=True)
    gallery = Gallery(encoder)
    gallery.settings = {name: getattr(options, name) for name in ("method", "k", "temperature", "caution")}
    read = read_folder if Path(options.examples).is_dir() else read_zip
    added = gallery.extend(read(options.examples), encoder, Bar("examples"))
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
    data |= {"skipped": [{"file": one.name, "reason": one.reason} for one in added.skipped]}
    right = ["" if share is None else percent(share) for share in shares]
    rows = list(zip(judged.classes, counts, right, strict=True))
    return Answer(data, ("class", "examples", "right when left out"), rows, lines)


def fewshot_predict(options: Options) -> Answer:
    from vitmsn import bundle
    from vitmsn.gallery import raw_pixels

    encoder, inputs = load_encoder(options, tuned=True), Inputs(options.inputs)
    gallery = bundle.load(options.bundle, encoder, re_embed=options.re_embed, progress=Bar("embedding again"))
    kept = gallery.settings.get("caution", 0.05)
    caution = options.caution if options.caution is not None else kept if isinstance(kept, float) else 0.05
    lesson = _lesson(gallery, encoder, caution)
    found, rows = [], []
    for names, pictures in inputs.chunks():
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
    result = Answer({**data, "skipped": inputs.skipped}, header, rows, worked=bool(found))
    if options.out:
        write_table(result, options.out)
    return result


# --- map, lowshot --------------------------------------------------------------------------------------------------


def map_(options: Options) -> Answer:
    import numpy as np

    from vitmsn import draw, projection
    from vitmsn.data import open_data

    encoder, dataset = load_encoder(options, tuned=True), open_data(options.data, options.split)
    if options.limit and len(dataset) > options.limit:
        chosen = np.random.default_rng(options.seed).choice(len(dataset), options.limit, replace=False)
        dataset = dataset.subset(chosen)
    files, labels, X, skipped = _embedded(encoder, dataset)
    data = {"model": encoder.name, "method": options.method, "points": [], "skipped": skipped}
    if not files:
        return Answer(data, worked=False)
    if options.method == "pca":
        places = projection.pca(X, options.seed)
    else:
        places = projection.umap(X, options.seed, options.neighbors, progress=Bar("umap"))
    data["points"] = points = [
        {"file": file, "label": label, "x": round(float(x), 5), "y": round(float(y), 5)}
        for file, label, (x, y) in zip(files, labels, places, strict=True)
    ]
    result = Answer(data, ("file", "label", "x", "y"), [tuple(point.values()) for point in points])
    if options.out and options.out.endswith(".png"):
        title = f"{options.method.upper()}, {len(points)} pictures, {encoder.name}"
        save_picture(draw.scatter(places, labels, title=title), options.out)
    elif options.out:
        write_table(result, options.out)
    result.header, named = ("class", "pictures", "x", "y"), np.array(labels)  # on a terminal: where the classes lie
    members = {label: named == label for label in dict.fromkeys(labels)}
    result.rows = [
        (label, own.sum(), *(f"{value:.2f}" for value in places[own].mean(0))) for label, own in members.items()
    ]
    return result


def _embedded(encoder: Encoder, dataset: DataSet) -> tuple[list[str], list[str], np.ndarray, list[dict[str, str]]]:
    """(files, labels, embeddings (N, D), what was skipped) of a data set, labelled or not."""
    import numpy as np

    from vitmsn.image import decode

    files: list[str] = []
    labels: list[str] = []
    rows: list[np.ndarray] = []
    skipped = [dict(zip(("file", "reason"), text.split(": ", 1), strict=True)) for text in dataset.skipped]
    chunk: list[Picture] = []
    bar = Bar(dataset.name)
    for done, record in enumerate(dataset, start=1):
        try:
            chunk.append(decode(record.data, name=record.id))
            files.append(record.id)
            labels.append("unlabelled" if record.label is None else dataset.classes[record.label])
        except ImageError as error:
            skipped.append({"file": record.id, "reason": str(error)})
        if chunk and (len(chunk) == CHUNK or done == len(dataset)):
            rows.append(encoder.embed(chunk))
            chunk = []
        bar(done, len(dataset))
    for one in skipped:
        say(f"skipped {one['file']}: {one['reason']}")
    return files, labels, np.concatenate(rows) if rows else np.zeros((0, 0), np.float32), skipped


def lowshot(options: Options) -> Answer:
    from vitmsn import lowshot as protocols
    from vitmsn.data import open_data
    from vitmsn.encoder import Encoder

    train = open_data(options.data, options.split)
    if options.test is None and options.test_split is None:
        train, test = train.split(options.held_out, options.seed)
    else:
        test = open_data(options.test or options.data, options.test_split)
    encoder = load_encoder(options)
    runs: list[tuple[Encoder, list[str]]] = [(encoder, list(options.features))]
    if options.baselines:
        networks = [name for name in options.features if name != "raw-pixels"]
        runs[0] = encoder, [*networks, "raw-pixels"]
        runs.append((Encoder.random(encoder.config, device=str(encoder.device)), networks))
    settings = {name: getattr(options, name) for name in ("shots", "splits", "seed", "k", "centering")}
    reports = [
        protocols.evaluate(one, train, test, features=features, progress=Bar().named, **settings)
        for one, features in runs
        if features
    ]
    skipped = [f"left out {text}" for text in (*train.skipped, *test.skipped)]
    for note in dict.fromkeys([*skipped, *(note for report in reports for note in report.notes)]):
        say(note)
    first = reports[0]
    result = Answer(
        {"reports": [report.to_dict() for report in reports]},
        ("model", *first.header()),
        [(report.model, *row) for report in reports for row in report.cells()],
        [f"{first.train} pictures to train on, {first.test} to test on, {first.classes} classes; shares in percent"],
    )
    if options.figure:
        _label_curve(reports, options.figure)
    if options.out:
        write_table(result, options.out)
    return result


def _label_curve(reports: Sequence[Any], out: str) -> None:
    """Accuracy over labelled pictures, a line for each model and kind of features, as a picture."""
    import numpy as np

    from vitmsn import draw

    lines: dict[str, dict[float, list[float]]] = {}
    for number, report in enumerate(reports):
        for row in report.rows:
            if row.protocol.endswith("per class"):
                name = f"random, {row.features}" if number else row.features
                lines.setdefault(name, {})[row.images / report.classes] = [100 * share for share in row.splits]
    if not lines:
        raise InputError("--figure needs shots per class; give some with --shots.")
    shots = sorted(next(iter(lines.values())))
    drawn = {name: np.transpose([splits[x] for x in shots]) for name, splits in lines.items()}  # (splits, shots)
    save_picture(draw.curve(shots, drawn, x_label="labelled pictures per class", y_label="accuracy, %"), out)
