"""`map` and `lowshot`: a data set as a map of similar pictures, and accuracies from a few labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vitmsn.cli.inputs import Options, load_encoder
from vitmsn.cli.output import Bar, Result, save_picture, say, write_table
from vitmsn.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from vitmsn.data import DataSet
    from vitmsn.encoder import Encoder


def map_(options: Options) -> Result:
    import numpy as np

    from vitmsn import draw, projection
    from vitmsn.data import open_data

    encoder, dataset = load_encoder(options), open_data(options.data, options.split)
    if options.limit and len(dataset) > options.limit:
        chosen = np.random.default_rng(options.seed).choice(len(dataset), options.limit, replace=False)
        dataset = dataset.subset(chosen)
    files, labels, X, skipped = _embedded(encoder, dataset)
    data = {"model": encoder.name, "method": options.method, "points": [], "skipped": skipped}
    if not files:
        return Result(data, worked=False)
    if options.method == "pca":
        places = projection.pca(X, options.seed)
    else:
        places = projection.umap(X, options.seed, options.neighbors, progress=Bar("umap"))
    data["points"] = points = [
        {"file": file, "label": label, "x": round(float(x), 5), "y": round(float(y), 5)}
        for file, label, (x, y) in zip(files, labels, places, strict=True)
    ]
    result = Result(data, ("file", "label", "x", "y"), [tuple(point.values()) for point in points])
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
    """(files, labels, embeddings (N, D), skipped files) of a data set, labeled or not."""
    import numpy as np

    from vitmsn.image import batches

    skipped = [dict(zip(("file", "reason"), text.split(": ", 1), strict=True)) for text in dataset.skipped]
    files: list[str] = []
    labels: list[str] = []
    rows: list[np.ndarray] = []
    bar = Bar(dataset.name)
    sources = ((record, record.data) for record in dataset)
    for batch in batches(
        sources,
        lambda record, error: skipped.append({"file": record.id, "reason": str(error)}),
        name=lambda record: record.id,
    ):
        files += [record.id for record in batch.keys]
        labels += ["unlabelled" if record.label is None else dataset.classes[record.label] for record in batch.keys]
        rows.append(encoder.embed(batch.pictures))
        bar(batch.done, len(dataset))
    for one in skipped:
        say(f"skipped {one['file']}: {one['reason']}")
    return files, labels, np.concatenate(rows) if rows else np.zeros((0, 0), np.float32), skipped


def lowshot(options: Options) -> Result:
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
        device, same = str(encoder.device), encoder.processor
        other = Encoder.random(encoder.config, device=device, backend=encoder.backend, processor=same)
        runs.append((other, networks))
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
    result = Result(
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
