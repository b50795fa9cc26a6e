"""The command line: ``python -m vitmsn COMMAND ...``; whatever the page shows is one call away.

Each command is a function from its options to an :class:`Answer`, which ``main`` prints as a table or as JSON. What a
command needs is imported inside it, so that ``--help`` is quick. As on the page, layers, heads, rows and columns count
from 1.

Exit codes: 0; 1 where no input could be used; 2 for a mistake, said in one line; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitmsn.errors import DataError, ImageError, InputError, ViTMSNError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from vitmsn.checkpoint import Checkpoint
    from vitmsn.data import DataSet
    from vitmsn.encoder import Classification, Encoder
    from vitmsn.gallery import Gallery
    from vitmsn.image import Picture
    from vitmsn.model import ViTMSNModel

Options = argparse.Namespace

RANDOM = "random"  # as --model: random weights of the embedded architecture
CHUNK = 64  # pictures decoded and encoded together


# --- what commands share -------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What a command found: ``data`` for programs, a table and a few lines for people."""

    data: dict[str, Any]
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    lines: list[str] = field(default_factory=list)
    worked: bool = True  # False: not one input could be used


class Bar:
    """Progress as one line of a terminal's stderr; nothing where stderr is a file."""

    width = 30

    def __init__(self, what: str = "") -> None:
        self.what, self.shown = plain(what), sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        if self.shown:
            line = "=" * (self.width * done // max(total, 1))
            end = "\n" if done >= total else ""
            print(f"\r{self.what} [{line:{self.width}}] {done}/{total}", end=end, file=sys.stderr, flush=True)

    def named(self, what: str, done: int, total: int) -> None:
        """The same for who reports what it is doing."""
        self.what = plain(what)
        self(done, total)


def plain(text: object) -> str:
    """Text fit for a terminal: whatever a file is called, it moves no cursor and rings no bell."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def say(line: str) -> None:
    print(f"vitmsn: {plain(line)}", file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    columns = [[plain(cell) for cell in column] for column in zip(header, *rows, strict=True)]
    for index, cells in enumerate(columns):
        width, right = max(map(len, cells)), all(map(_is_number, cells[1:]))
        columns[index] = [cell.rjust(width) if right else cell.ljust(width) for cell in cells]
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def _is_number(text: str) -> bool:
    digits = text.strip(" %").lstrip("-")
    return not digits or digits.replace(".", "", 1).isdigit()


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def write(target: str | Path) -> Path:
    """The path of a file to write; its folder is made."""
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_table(answer: Answer, out: str) -> None:
    """``--out`` of a table: JSON, or CSV."""
    from vitmsn.export import csv_text

    whole = out.endswith(".json")
    text = json.dumps(answer.data, indent=1) + "\n" if whole else csv_text(answer.header, answer.rows)
    write(out).write_text(text, encoding="utf-8", newline="")


def load_encoder(options: Options) -> Encoder:
    from vitmsn.encoder import Encoder

    if options.model == RANDOM:
        return Encoder.random(device=options.device)
    return Encoder.from_pretrained(options.model, device=options.device, dtype=options.dtype)


class Inputs:
    """The pictures of files and folders (with all below them), decoded a chunk at a time.

    What cannot be decoded is said on stderr, listed in ``skipped`` and left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.files = [file for name in names for file in _files_of(Path(name))]
        self.skipped: list[dict[str, str]] = []

    def chunks(self, size: int = CHUNK) -> Iterator[tuple[list[str], list[Picture]]]:
        from vitmsn.image import decode

        names: list[str] = []
        pictures: list[Picture] = []
        bar = Bar("pictures")
        for done, file in enumerate(self.files, start=1):
            try:
                pictures.append(decode(file))
                names.append(str(file))
            except ImageError as error:
                say(f"skipped {file}: {error}")
                self.skipped.append({"file": str(file), "reason": str(error)})
            if pictures and (len(pictures) == size or done == len(self.files)):
                yield names, pictures
                names, pictures = [], []
            bar(done, len(self.files))

    def each(self) -> Iterator[tuple[str, Picture]]:
        for names, pictures in self.chunks(1):
            yield names[0], pictures[0]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    found = sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
    if not found:
        raise DataError(f"{path} holds no files; give a folder of pictures.")
    return found


class PictureFiles:
    """Where pictures go: ``--out`` is a file for a single input, else a folder with a file for each."""

    def __init__(self, out: str | None, inputs: Inputs, what: str) -> None:
        self._out, self._what, self._taken = out, what, set[Path]()
        self._single = out is not None and len(inputs.files) == 1 and Path(out).suffix != ""

    def save(self, picture: Image.Image, name: str) -> str | None:
        if self._out is None:
            return None
        target = Path(self._out) if self._single else Path(self._out) / f"{Path(name).stem}-{self._what}.png"
        stem, number = target.stem, 2
        while target in self._taken:  # of another folder
            target, number = target.with_stem(f"{stem}-{number}"), number + 1
        self._taken.add(target)
        return save_picture(picture, target)


def save_picture(picture: Image.Image, target: str | Path) -> str:
    try:
        picture.save(write(target))
    except ValueError as error:
        raise InputError(f"{target} names no kind of picture file; end it in .png.") from error
    return str(target)


# --- classify, embed -----------------------------------------------------------------------------------------------


def classify(options: Options) -> Answer:
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    found, rows = [], []
    for names, pictures in inputs.chunks():
        for name, answer in zip(names, encoder.classify(pictures, top_k=options.top_k), strict=True):
            top = _top(answer)
            said = {"sure": answer.sure, "kind": answer.kind, "sentence": answer.sentence()}
            found.append({"file": name, "labels": top, **said})
            first, *others = [(entry["label"], percent(entry["probability"])) for entry in top]
            sure = "yes" if answer.sure else f"some {answer.kind}" if answer.kind else "no"
            rows.append((name, *first, sure, ", ".join(" ".join(other) for other in others[:2])))
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    result = Answer(data, ("file", "answer", "probability", "sure", "next"), rows, worked=bool(found))
    if options.out:
        write_table(result, options.out)
    return result


def _top(answer: Classification) -> list[dict[str, Any]]:
    pairs = zip(answer.labels, answer.probabilities, strict=True)
    return [{"label": label, "probability": round(share, 6)} for label, share in pairs]


def embed(options: Options) -> Answer:
    import numpy as np

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    names, chunks = [], []
    for chunk, pictures in inputs.chunks():
        chunks.append(encoder.embed(pictures, size=options.size, layernorm=not options.pre_layernorm))
        names.extend(chunk)
    dim = encoder.config.hidden_size
    embeddings = np.concatenate(chunks) if chunks else np.zeros((0, dim), np.float32)
    numbers = [[round(float(value), 6) for value in row] for row in embeddings]
    data = {"model": encoder.name, "dim": dim, "files": names, "embeddings": numbers, "skipped": inputs.skipped}
    result = Answer(data, worked=bool(names), lines=[f"{len(names)} embeddings of {dim} numbers"])
    if options.out and options.out.endswith(".npz"):
        np.savez_compressed(write(options.out), files=np.array(names), embeddings=embeddings)
    elif options.out:
        result.header = ("file", *map(str, range(dim)))
        result.rows = [(name, *row) for name, row in zip(names, numbers, strict=True)]
        write_table(result, options.out)
    norms = np.linalg.norm(embeddings, axis=1)
    result.header = ("file", "norm", "first numbers")  # a terminal is no place for hundreds of columns
    result.rows = [
        (name, f"{norm:.3f}", " ".join(f"{value:.3f}" for value in row[:4]))
        for name, norm, row in zip(names, norms, embeddings, strict=True)
    ]
    return result


# --- attention, mask -----------------------------------------------------------------------------------------------


def seen(encoder: Encoder, picture: Picture) -> Image.Image:
    """The part of a picture that the model sees, in the picture's own resolution where it sees all of it."""
    from vitmsn import limits

    height, width = encoder.input_size
    whole = encoder.processor.crop is None
    shown = picture.rgb.copy() if whole else encoder.processor.view(picture, (4 * height, 4 * width))
    shown.thumbnail((limits.SHOWN_SIDE, limits.SHOWN_SIDE))
    return shown


def _counted(value: int, name: str, most: int, least: int = 1) -> int:
    if not least <= value <= most:
        raise InputError(f"--{name} is {value}; it must be from {least} to {most} here.")
    return value


def attention(options: Options) -> Answer:
    from vitmsn import attention as maps
    from vitmsn import draw

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    model, config, kind = encoder.model, encoder.config, options.kind
    layer = _counted(options.layer, "layer", config.num_hidden_layers, 0) or config.num_hidden_layers
    head = _counted(options.head, "head", config.num_attention_heads, 0)
    which = {"layer": None, "head": None} if kind == "rollout" else {"layer": layer, "head": head}
    files, found, rows = PictureFiles(options.out, inputs, "attention"), [], []
    for name, picture in inputs.each():
        tokens = encoder.tokens(picture, size=options.size)
        place = [_counted(options.row, "row", tokens.grid[0]), _counted(options.column, "column", tokens.grid[1])]
        row, column = (number - 1 for number in place)
        if kind == "rollout":
            values = maps.rollout(model, tokens)  # (1, patches)
        else:
            heads = (
                maps.cls_attention(model, tokens)[:, layer - 1]
                if kind == "cls"
                else maps.patch_attention(model, tokens, row * tokens.grid[1] + column, layer - 1)
            )  # (1, heads, patches)
            values = heads.mean(1) if head == 0 else heads[:, head - 1]
        grid = maps.to_grid(values, tokens)[0].numpy()
        shown = draw.overlay(seen(encoder, picture), grid, options.opacity)
        if kind == "patch":
            shown = draw.highlight(shown, row, column, tokens.grid)
        out = files.save(draw.with_legend(shown, draw.own_scale(grid), "of the attention"), name)
        entropy = round(float(maps.entropy(values)[0]), 4)
        numbers = {"grid": list(tokens.grid), "map": grid.astype(float).round(6).tolist(), "entropy": entropy}
        found.append({"file": name, "kind": kind, **which, **numbers, "out": out})
        peak = divmod(int(grid.argmax()), grid.shape[1])
        rows.append((name, f"{peak[0] + 1}.{peak[1] + 1}", percent(float(grid.max())), f"{entropy:.2f}"))
    whose = kind if kind == "rollout" else f"{kind}, layer {layer}, {f'head {head}' if head else 'mean of heads'}"
    return Answer(
        {"model": encoder.name, "pictures": found, "skipped": inputs.skipped},
        ("file", "strongest patch", "its share", "entropy"),
        rows,
        [f"{whose}; patches as row.column, entropy in nats"],
        bool(found),
    )


def mask(options: Options) -> Answer:
    import numpy as np
    import torch

    from vitmsn import draw, masking

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    (height, width), (patch_height, patch_width) = encoder.input_size, encoder.patch_size
    grid = height // patch_height, width // patch_width
    if options.paint is not None:
        keep = masking.painted_mask(masking.read_painted(options.paint, grid))
    else:
        drawn = {"random": masking.random_mask, "focal": masking.focal_mask, "block": masking.block_mask}
        keep = drawn[options.kind](grid, options.ratio, torch.Generator().manual_seed(options.seed))
    kept = masking.to_grid(keep, grid)[0].numpy()
    files, found, rows = PictureFiles(options.out, inputs, "mask"), [], []
    for name, picture in inputs.each():
        pair = np.concatenate([encoder.embed(picture), encoder.embed(picture, keep_indices=keep)])
        full, masked = pair / np.maximum(np.linalg.norm(pair, axis=1, keepdims=True), 1e-12)
        answers = encoder.classify_embeddings(pair, top_k=options.top_k) if encoder.has_classifier else []
        before, after = [_top(answer) for answer in answers] or (None, None)
        similarity, times = float(full @ masked), [encoder.time(picture), encoder.time(picture, keep_indices=keep)]
        found.append(
            {
                "file": name,
                "kept": int(kept.sum()),
                "total": kept.size,
                "similarity": round(similarity, 6),
                "milliseconds_full": round(times[0], 3),
                "milliseconds_masked": round(times[1], 3),
                "top_before": before,
                "top_after": after,
                "out": files.save(draw.masked_picture(seen(encoder, picture), kept), name),
            }
        )
        labels = [answer.labels[0] for answer in answers] or ("", "")
        numbers = (f"{number:.2f}" for number in (similarity, *times))
        rows.append((name, f"{kept.sum()} of {kept.size}", *numbers, *labels))
    return Answer(
        {"model": encoder.name, "pictures": found, "skipped": inputs.skipped},
        ("file", "kept", "similarity", "ms full", "ms masked", "before", "after"),
        rows,
        worked=bool(found),
    )


# --- fewshot -------------------------------------------------------------------------------------------------------

ENOUGH = 3  # examples of each class from which "none of these" means something, as on the page
METHODS = ("auto", "knn", "centroid", "ridge", "logistic")


def _estimator(gallery: Gallery, center: np.ndarray | None) -> Any:
    """The classifier that a gallery's settings name, not fitted yet."""
    from vitmsn import fewshot

    method, k = gallery.settings.get("method", "auto"), gallery.settings.get("k", 5)
    if method == "auto":
        return fewshot.automatic(max(1, gallery.shots), center=center)
    if method == "knn" and isinstance(k, int):
        return fewshot.KNNClassifier(n_neighbors=k, center=center)
    kinds = {"centroid": fewshot.CentroidClassifier, "ridge": fewshot.RidgeClassifier}
    kinds["logistic"] = fewshot.LogisticClassifier
    if method not in kinds:
        raise InputError(f"The bundle asks for the classifier {method!r}; known are {', '.join(METHODS)}.")
    return kinds[method](center=center)


def fewshot_train(options: Options) -> Answer:
    from vitmsn import fewshot
    from vitmsn.gallery import Gallery, read_folder, read_zip

    encoder = load_encoder(options)
    gallery = Gallery(encoder)
    gallery.settings = {"method": options.method, "k": options.k}
    read = read_folder if Path(options.examples).is_dir() else read_zip
    added = gallery.extend(read(options.examples), encoder, Bar("examples"))
    for skipped in added.skipped:
        say(f"skipped {skipped.name}: {skipped.reason}")
    estimator = _estimator(gallery, encoder.feature_mean)
    judged = fewshot.leave_one_out(estimator, gallery.X, gallery.y)
    if options.out:
        gallery.save(write(options.out))
    shares = [None if share != share else round(share, 6) for share in judged.class_accuracy.tolist()]  # NaN: alone
    counts = [gallery.counts[label] for label in judged.classes]
    classes = [
        {"label": str(label), "examples": count, "accuracy": share}
        for label, count, share in zip(judged.classes, counts, shares, strict=True)
    ]
    left_out = {"right": judged.right, "total": judged.total, "sentence": judged.sentence()}
    left_out["accuracy"] = round(judged.accuracy, 6) if judged.total else None
    data = {"model": encoder.name, "method": type(estimator).__name__, "classes": classes, "leave_one_out": left_out}
    data |= {"out": options.out, "skipped": [{"file": one.name, "reason": one.reason} for one in added.skipped]}
    right = ["" if share is None else percent(share) for share in shares]
    rows = list(zip(judged.classes, counts, right, strict=True))
    return Answer(data, ("class", "examples", "right when left out"), rows, [judged.sentence()])


def fewshot_predict(options: Options) -> Answer:
    from vitmsn import fewshot
    from vitmsn.gallery import Gallery

    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    gallery = Gallery.open(options.bundle, encoder, re_embed=options.re_embed, progress=Bar("embedding again"))
    center, examples = encoder.feature_mean, gallery.enabled
    estimator = _estimator(gallery, center).fit(gallery.X, gallery.y)
    rejector = fewshot.Rejector(options.caution, center=center).fit(gallery.X) if gallery.shots >= ENOUGH else None
    found, rows = [], []
    for names, pictures in inputs.chunks():
        X = encoder.embed(pictures)
        shares = estimator.predict_proba(X)
        strange = [False] * len(X) if rejector is None else rejector.reject(X)
        similarity, index = fewshot.nearest(gallery.X, X, 3, center=center)
        for number, name in enumerate(names):
            best = int(shares[number].argmax())
            label, confidence = str(estimator.classes_[best]), float(shares[number, best])
            near = [
                {"file": examples[i].name, "label": examples[i].label, "similarity": round(float(cosine), 6)}
                for i, cosine in zip(index[number], similarity[number], strict=True)
            ]
            answer = None if strange[number] else label
            found.append({"file": name, "label": answer, "confidence": round(confidence, 6), "neighbours": near})
            beside = f"{near[0]['label']}/{near[0]['file']}", f"{near[0]['similarity']:.2f}"
            rows.append((name, answer or "none of these", percent(confidence), *beside))
    classes = [str(label) for label in estimator.classes_]
    data = {"model": encoder.name, "method": type(estimator).__name__, "classes": classes, "predictions": found}
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

    encoder, dataset = load_encoder(options), open_data(options.data, options.split)
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


# --- pretrain, finetune --------------------------------------------------------------------------------------------

QUERIES, REFERENCE = 2000, 10_000  # pictures of the kNN that watches a run: held out, and compared with
GO_ON = "not finished: give the same command again to go on"


def pretrain(options: Options) -> Answer:
    from vitmsn import checkpoint
    from vitmsn.lowshot import knn_accuracy
    from vitmsn.pretrain import trainer as training

    init = _initial(checkpoint.load(options.init)) if options.init else None
    recipe, out = _recipe(options, init), Path(options.out)
    train, pictures, labels, queries, wanted = _read(options, recipe.model.image_size)
    trainer = training.Trainer(recipe, pictures, _device(options), init)
    known, asked = (numbers.numpy() >= 0 for numbers in (labels, wanted))
    labelled = bool(known.any() and asked.any())

    def knn() -> dict[str, float]:
        X = _cls_of(trainer.target_model, pictures[known][:REFERENCE])
        T = _cls_of(trainer.target_model, queries[asked][:QUERIES])
        return {"knn": knn_accuracy(X, labels[known][:REFERENCE], T, wanted[asked][:QUERIES])}

    limits: dict[str, Any] = {"limit_minutes": options.limit_minutes, "monitor_every": options.monitor_every}
    finished = training.run(trainer, out, monitor=knn if labelled else None, say=say, **limits)
    last = knn() if labelled else {}
    epochs = round(trainer.step / trainer.steps_per_epoch, 3)
    card = {"trained_on": train, "pictures": len(pictures), "epochs": epochs, "initialised_from": options.init}
    card |= {name: round(value, 4) for name, value in last.items()}
    training.export(trainer, out / "model", card)
    data = {"out": str(out), "model": str(out / "model"), "finished": finished, "steps": trainer.step, **card}
    row = (trainer.step, trainer.steps, epochs, percent(last["knn"]) if last else "no labels")
    lines = [f"{data['model']} is a model for --model; {out / 'log.csv'} is the log", *([] if finished else [GO_ON])]
    return Answer(data, ("steps", "of", "epochs", "kNN of held-out pictures"), [row], lines)


def _device(options: Options) -> Any:
    import torch

    from vitmsn.encoder import choose_device

    if options.threads:
        torch.set_num_threads(options.threads)
    return choose_device(options.device)


def _read(options: Options, size: int | tuple[int, int]) -> tuple[str, Tensor, Tensor, Tensor, Tensor]:
    """(name, pictures and labels to train on, pictures and labels held out), in memory at the model's own size."""
    from vitmsn.config import pair
    from vitmsn.data import open_data, to_uint8

    side = max(pair(size))
    train, held_out = open_data(options.data, options.split).split(options.held_out)
    read, kept = to_uint8(train, side, Bar("reading pictures")), to_uint8(held_out, side, Bar("and those held out"))
    return train.name, *read, *kept


def _recipe(options: Options, init: Checkpoint | None) -> Any:
    """The preset with what the options change."""
    from dataclasses import replace

    from vitmsn.pretrain.trainer import Recipe, Stage

    recipe = Recipe()
    names = ("seed", "epochs", "batch_size", "mask_ratio", "focal_views", "prototypes")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(options, name)) is not None}
    if init is not None:
        changes["model"] = init.config
        if init.msn_head:
            parts = {"hidden": "projector.fc1.weight", "output": "projector.fc3.weight", "prototypes": "prototypes"}
            changes |= {name: len(init.msn_head[part]) for name, part in parts.items()}
            if options.prototypes not in (None, changes["prototypes"]):
                raise InputError(f"{init.source} has {changes['prototypes']} prototypes; leave --prototypes out.")
    if options.rate is not None:  # start and end keep their proportion to it
        rates = ("start_rate", "peak_rate", "end_rate")
        changes |= {name: getattr(recipe, name) * options.rate / recipe.peak_rate for name in rates}
    if options.views:
        total = sum(share for share, _, _ in options.views)
        changes["stages"] = tuple(Stage(share / total, target, focal) for share, target, focal in options.views)
    return replace(recipe, **changes)


def _initial(loaded: Checkpoint) -> Checkpoint:
    """What of a checkpoint a run starts from: no mask token, and a head only where it is whole."""
    from dataclasses import replace

    head = loaded.msn_head if {"prototypes", "projector.fc1.weight"} <= set(loaded.msn_head) else {}
    tensors = {name: tensor for name, tensor in loaded.tensors.items() if name != "embeddings.mask_token"}
    return replace(loaded, msn_head=head, tensors=tensors, config=loaded.config.with_labels(num_labels=2))


def _cls_of(model: ViTMSNModel, pictures: Tensor) -> np.ndarray:
    """uint8 pictures (N, 3, height, width) -> CLS embeddings (N, D) at the native size."""
    import torch

    from vitmsn.config import pair
    from vitmsn.pretrain import views

    device, side = model.embeddings.cls_token.device, pair(model.config.image_size)[0]
    with torch.no_grad():
        outs = [
            model(views.resize(part.to(device), side), interpolate_pos_encoding=True) for part in pictures.split(250)
        ]
    return torch.cat([out.last_hidden_state[:, 0].cpu() for out in outs]).numpy()


def finetune(options: Options) -> Answer:
    import torch

    from vitmsn import checkpoint
    from vitmsn.config import pair
    from vitmsn.data import open_data
    from vitmsn.image import ViTMSNImageProcessor
    from vitmsn.model import ViTMSNForImageClassification
    from vitmsn.pretrain import finetune as tuning
    from vitmsn.pretrain.trainer import run

    source = options.model or checkpoint.embedded()
    classes = open_data(options.data, options.split).classes
    if len(classes) < 2:
        raise DataError(
            f"{options.data} has {len(classes)} classes; a classifier needs two or more, a folder for each."
        )
    model = ViTMSNForImageClassification.from_pretrained(source, id2label=dict(enumerate(classes)))
    config, out = model.config, Path(options.out)
    train, pictures, labels, queries, wanted = _read(options, config.image_size)
    known, asked = labels >= 0, wanted >= 0
    tuner = tuning.Finetuner(_finetune_recipe(options), model, pictures[known], labels[known], _device(options))
    finished = run(tuner, out, limit_minutes=options.limit_minutes, say=say)

    judged = _judged(tuning.logits_of(tuner.average, queries[asked]), wanted[asked])
    epochs = round(tuner.step / tuner.steps_per_epoch, 3)
    card = {"trained_on": train, "fine_tuned_from": str(source), "epochs": epochs, "held_out": judged.held_out}
    size = torch.Size(pair(config.image_size))
    checkpoint.save(
        out / "model",
        config,
        tuner.average.vit.state_dict(),
        classifier=tuning.fold_temperature(tuner.average.classifier.state_dict(), judged.temperature),
        processor=ViTMSNImageProcessor({"height": size[0], "width": size[1]}).to_dict(),
        card={**card, "not_sure_below": judged.sure},
    )
    data = {"out": str(out), "model": str(out / "model"), "finished": finished, "steps": tuner.step, **card}
    lines = [*([] if finished else [GO_ON]), *judged.notes, f"{data['model']} loads here and in transformers"]
    return Answer(data, ("steps", "of", "epochs", *JUDGED), [(tuner.step, tuner.steps, epochs, *judged.cells)], lines)


JUDGED = ("held-out pictures", "top-1", "top-5", "sure from")


@dataclass
class Judged:
    """A classifier on held-out pictures: its accuracy, and what makes its probabilities honest."""

    held_out: dict[str, Any]  # pictures, top1, top5
    temperature: float
    sure: float  # probability from which on an answer is sure
    notes: list[str]

    @property
    def cells(self) -> tuple[object, ...]:
        sure = percent(self.sure) if self.sure <= 1 else "never"
        return self.held_out["pictures"], percent(self.held_out["top1"]), percent(self.held_out["top5"]), sure


def _judged(logits: Tensor, wanted: Tensor) -> Judged:
    """Logits (N, classes) of held-out pictures: one half chooses the temperature, the other the threshold."""
    from vitmsn.pretrain import finetune as tuning

    temperature, notes = tuning.calibrate(logits[::2], wanted[::2]), []
    try:
        sure = tuning.sure_threshold((logits[1::2] / temperature).softmax(1), wanted[1::2])
    except DataError as error:
        sure, notes = 1.1, [f"{error} It will always say that it is not sure."]  # above every probability
    right = logits.topk(min(5, logits.shape[1])).indices == wanted[:, None]
    top1, top5 = (round(float(right[:, :k].any(1).float().mean()), 4) for k in (1, 5))
    return Judged({"pictures": len(wanted), "top1": top1, "top5": top5}, temperature, round(sure, 4), notes)


def _finetune_recipe(options: Options) -> Any:
    from vitmsn.pretrain.finetune import FinetuneRecipe

    given = {"epochs": options.epochs, "batch_size": options.batch_size, "peak_rate": options.rate}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if options.views:
        total = sum(share for share, _ in options.views)
        changes["sizes"] = tuple((share / total, side) for share, side in options.views)
    return FinetuneRecipe(seed=options.seed, **changes)


# --- head ----------------------------------------------------------------------------------------------------------


def head(options: Options) -> Answer:
    import torch

    from vitmsn import checkpoint, lowshot
    from vitmsn.data import open_data
    from vitmsn.encoder import Encoder
    from vitmsn.pretrain.finetune import fold_temperature

    source, device = options.model or checkpoint.embedded(), str(_device(options))
    dataset = open_data(options.data, options.split)
    classes = dataset.classes
    if len(classes) < 2:
        raise DataError(f"{options.data} has {len(classes)} classes; a classifier needs two or more.")
    kinds = _kinds(options.kinds, classes) if options.kinds else None
    train, held_out = dataset.split(options.held_out, options.seed)
    _each_has_pictures(classes, train.labels)  # now, not after minutes
    loaded, encoder = checkpoint.load(source), Encoder.from_pretrained(source, device, "float32")

    seen, asked = (lowshot.extract(encoder, part, progress=Bar().named) for part in (train, held_out))
    _each_has_pictures(classes, seen.y)
    for text in (*dataset.skipped, *seen.skipped, *asked.skipped):
        say(f"left out {text}")
    probe = lowshot.linear_probe(seen.X, seen.y, asked.X, asked.y, seed=options.seed, progress=Bar().named)
    linear = {"weight": torch.from_numpy(probe.weight), "bias": torch.from_numpy(probe.bias)}
    logits = torch.nn.functional.linear(torch.from_numpy(asked.X), **linear)
    judged = _judged(logits, torch.from_numpy(asked.y))

    card = {**loaded.card, "not_sure_below": judged.sure, "held_out": judged.held_out}
    known = {label for members in card.get("kinds", {}).values() for label in members}
    if kinds is not None:
        card["kinds"] = kinds
    elif not known <= set(classes):
        del card["kinds"]
        say(f"the kinds of {loaded.source} are of other classes and are left out; give some with --kinds")
    names = ("msn_head", "feature_mean", "processor", "temperature", "sharpening")
    checkpoint.save(
        options.out,
        loaded.config.with_labels(id2label=dict(enumerate(classes))),
        loaded.tensors,
        classifier=fold_temperature(linear, judged.temperature),
        card=card,
        dtype=getattr(torch, options.dtype),
        **{name: getattr(loaded, name) for name in names},
    )
    data = {"model": options.out, "source": loaded.source, "classes": len(classes), "pictures": len(seen.y)}
    data |= {"penalty": probe.penalty, "temperature": round(judged.temperature, 4), "not_sure_below": judged.sure}
    lines = [*judged.notes, f"{options.out} loads here and in transformers"]
    return Answer({**data, "held_out": judged.held_out}, JUDGED, [judged.cells], lines)


def _each_has_pictures(classes: Sequence[str], labels: np.ndarray) -> None:
    there = set(labels.tolist())
    missing = [name for label, name in enumerate(classes) if label not in there]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(classes)} classes have no picture to learn from ({', '.join(missing[:5])}); give "
            "each at least one."
        )


def _kinds(file: str, classes: Sequence[str]) -> dict[str, list[str]]:
    """{kind: [label, ...]} of a JSON file, checked against the classes."""
    try:
        kinds = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON ({error}); correct it.") from error
    if not (
        isinstance(kinds, dict)
        and all(
            isinstance(labels, list) and all(isinstance(label, str) for label in labels) for labels in kinds.values()
        )
    ):
        raise DataError(f"{file} must hold one JSON object of kinds, each with a list of labels.")
    unknown = sorted({label for labels in kinds.values() for label in labels} - set(classes))
    if unknown:
        raise DataError(f"{file} names what is none of the {len(classes)} classes: {', '.join(unknown[:10])}.")
    return kinds


# --- convert, serve ------------------------------------------------------------------------------------------------


def convert(options: Options) -> Answer:
    import torch

    from vitmsn import checkpoint

    loaded, target = checkpoint.load(options.source), Path(options.target)
    names = ("classifier", "msn_head", "feature_mean", "processor", "card", "temperature", "sharpening")
    extras = {name: getattr(loaded, name) for name in names}
    checkpoint.save(target, loaded.config, loaded.tensors, dtype=getattr(torch, options.dtype), **extras)
    there = {"classifier": loaded.classifier, "MSN head": loaded.msn_head, "feature mean": loaded.feature_mean}
    parts = ["backbone", *(name for name, part in there.items() if part is not None and len(part))]
    size, config = sum(file.stat().st_size for file in target.iterdir() if file.is_file()), loaded.config
    data = {"source": loaded.source, "target": str(target), "dtype": options.dtype, "parts": parts, "bytes": size}
    shape = ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size", "image_size")
    row = (*(getattr(config, name) for name in shape), ", ".join(parts), f"{size / 1e6:.1f}")
    header = ("width", "layers", "heads", "patch", "size", "parts", "MB")
    return Answer({**data, "config": config.to_dict()}, header, [row], [f"{target} loads here and in transformers"])


def serve(options: Options) -> int:
    # Gradio reads these when it is imported
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from vitmsn.ui.build import serve as serve_page

    return serve_page(options.model, options.host, options.port)


# --- the parser ----------------------------------------------------------------------------------------------------

DTYPES = ("float32", "float16", "bfloat16")


def _view(text: str) -> tuple[float, int, int]:
    """32:16:0.8 -> (0.8, 32, 16)."""
    try:
        target, focal, share = text.split(":")
        return float(share), int(target), int(focal)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no TARGET:FOCAL:SHARE like 32:16:0.8") from None


def _side(text: str) -> tuple[float, int]:
    """48:0.8 -> (0.8, 48)."""
    try:
        side, share = text.split(":")
        return float(share), int(side)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no SIDE:SHARE like 48:0.8") from None


def _ending(*endings: str) -> Callable[[str], str]:
    """A check of file names, so that a long command does not fail at its end."""

    def check(text: str) -> str:
        if not text.endswith(endings):
            raise argparse.ArgumentTypeError(f"{text!r} must end in {' or '.join(endings)}")
        return text

    return check


def _shots(text: str) -> int | float:
    number = float(text)
    return int(number) if number == int(number) else number


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m vitmsn", description="ViT-MSN: use it, look into it, train it.")
    commands: Any = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Options], Answer | int], about: str, among: Any = commands) -> Any:
        made = among.add_parser(name, help=about, description=about)
        made.set_defaults(run=run)
        return made.add_argument

    add = command("classify", classify, "say what is on pictures")
    _pictures(add)
    add("--top-k", type=int, default=5, help="classes a picture (default: 5)")
    _usual(add, "write the answers to a .json or .csv file", ".json", ".csv")

    add = command("embed", embed, "turn pictures into embeddings")
    _pictures(add)
    add("--size", type=int, help="side of the input in pixels, a multiple of the patch")
    add("--pre-layernorm", action="store_true", help="take CLS before the final LayerNorm")
    _usual(add, "write the embeddings to a .npz, .json or .csv file", ".npz", ".json", ".csv")

    add = command("attention", attention, "show where the model looks")
    _pictures(add)
    add("--kind", choices=("cls", "patch", "rollout"), default="cls", help="whose attention (default: cls)")
    add("--layer", type=int, default=0, help="from 1; 0 is the last")
    add("--head", type=int, default=0, help="from 1; 0 is the mean of all")
    add("--row", type=int, default=1, help="of the patch, from 1, for --kind patch")
    add("--column", type=int, default=1, help="of the patch, from 1, for --kind patch")
    add("--size", type=int, help="side of the input in pixels: larger gives a finer map")
    add("--opacity", type=float, default=0.6, help="of the map over the picture (default: 0.6)")
    _usual(add, "write the map over the picture to a .png file, or to a folder for several")

    add = command("mask", mask, "hide patches and see what is left of the embedding")
    _pictures(add)
    add("--kind", choices=("random", "focal", "block"), default="random", help="how patches are drawn")
    add("--ratio", type=float, default=0.7, help="share of the patches to hide (default: 0.7)")
    add("--seed", type=int, default=0, help="names the draw")
    add("--paint", help="hide these patches instead: row.column or rectangles, '2.3, 4.1-5.8'")
    add("--top-k", type=int, default=5, help="classes before and after")
    _usual(add, "write the masked picture to a .png file, or to a folder for several")

    about = "learn classes from a few examples, and recognise them"
    steps = commands.add_parser("fewshot", help=about, description=about).add_subparsers(required=True, metavar="STEP")
    add = command("train", fewshot_train, "learn from a folder or zip of class folders, and judge it", steps)
    add("examples", help="a folder or a zip with a folder of pictures for each class")
    add("--method", choices=METHODS, default="auto", help="auto: centroid up to two examples, then ridge")
    add("--k", type=int, default=5, help="neighbours of knn (default: 5)")
    _usual(add, "write what was learned to a .zip bundle, for `predict` and for the page", ".zip")
    add = command("predict", fewshot_predict, "recognise the classes of a bundle on pictures", steps)
    add("bundle", help="what `train` or the page wrote")
    _pictures(add)
    add("--caution", type=float, default=0.05, help="share of good pictures that 'none of these' may cost")
    add("--re-embed", action="store_true", help="embed its examples again, where another model made them")
    _usual(add, "write the answers to a .json or .csv file", ".json", ".csv")

    add = command("map", map_, "lay pictures out so that similar ones are near")
    _data(add)
    add("--method", choices=("pca", "umap"), default="pca", help="pca at once, umap by neighbours (default: pca)")
    add("--neighbors", type=int, default=15, help="that tie a point, for umap")
    add("--limit", type=int, help="at most so many pictures, drawn by --seed")
    add("--seed", type=int, default=0)
    _usual(add, "write the map to a .png picture, or its points to .json or .csv", ".png", ".json", ".csv")

    add = command("lowshot", lowshot, "measure a model: a few labels a class, kNN, linear probe")
    _data(add)
    add("--test", metavar="DATA", help="test pictures; without it, part of the data is held out")
    add("--test-split", help="the split to test on, of --test or of the data")
    add("--held-out", type=float, default=0.2, help="share of each class to test on, without --test (default: 0.2)")
    add("--shots", type=_shots, nargs="+", default=[1, 2, 5, 0.01], help="labels a class, or their share below 1")
    add("--splits", type=int, default=3, help="draws of the labels (default: 3)")
    add("--k", type=int, default=20, help="neighbours of kNN (default: 20)")
    add("--seed", type=int, default=0)
    kinds = ("post-layernorm", "pre-layernorm", "raw-pixels")
    add("--features", choices=kinds, nargs="+", default=kinds[:1], help="what to measure (default: post-layernorm)")
    add(
        "--centering",
        choices=("row", "data"),
        default="row",
        help="of low-shot rows: row, as the original did, or data",
    )
    add("--baselines", action="store_true", help="random weights and raw pixels too")
    add("--figure", type=_ending(".png"), help="draw accuracy over labels to a .png file")
    _usual(add, "write the table to a .json or .csv file", ".json", ".csv")

    add = command("pretrain", pretrain, "train a backbone on pictures without labels")
    add("preset", choices=("tiny-8-64",), help="the architecture and its recipe")
    _training(add)
    add("--init", help="go on from this model's weights: a folder, a file or a hub id")
    add("--mask-ratio", type=float, help="share of the patches dropped from random views")
    add("--focal-views", type=int, help="small crops a picture")
    add("--prototypes", type=int)
    about = "sides of the views in pixels and their share of the run, in order: 32:16:0.8 48:24:0.15 64:32:0.05"
    add("--views", type=_view, nargs="+", metavar="TARGET:FOCAL:SHARE", help=about)
    add("--monitor-every", type=int, default=1000, help="steps between kNN of held-out pictures (default: 1000)")

    add = command("finetune", finetune, "teach a backbone the classes of labelled pictures")
    add("--model", help="the backbone: a folder, a file or a hub id; without it the embedded model")
    _training(add)
    about = "side of the views in pixels and its share of the run, in order: 48:0.8 64:0.2"
    add("--views", type=_side, nargs="+", metavar="SIDE:SHARE", help=about)

    add = command("head", head, "fit a linear classifier on a frozen backbone")
    add("--model", help="the backbone: a folder, a file or a hub id; without it the embedded model")
    _measured(add, 0.05)
    add("--kinds", help='JSON file of wider names for classes: {"pet": ["cat", "dog"]}')
    add("--dtype", choices=DTYPES, default="float16", help="of the weights in the file (default: float16)")
    add("--out", required=True, help="the model folder to write; it may be that of --model")
    _machine(add)

    add = command("convert", convert, "read any checkpoint, write a folder that this package and transformers read")
    add("source", help="a hub id, a folder, or a file (.safetensors, .bin, .pth.tar)")
    add("target", help="the folder to write")
    add("--dtype", choices=DTYPES, default="float32", help="of the weights in the file (default: float32)")
    add("--json", action="store_true", help="print JSON instead of a table")

    add = command("serve", serve, "serve the page in the browser")
    add("--model", default=os.environ.get("VITMSN_MODEL") or None, help="a folder or a hub id")
    add("--host", help="address to listen on (default: GRADIO_SERVER_NAME or 127.0.0.1)")
    add("--port", type=int, help="port (default: GRADIO_SERVER_PORT or the first free from 7860)")
    return top


def _pictures(add: Any) -> None:
    add("inputs", nargs="+", metavar="PICTURE", help="picture files, or folders with all below them")


def _data(add: Any) -> None:
    add("data", help="a folder with a folder for each class, parquet files, or a hub data set")
    add("--split", help="train, validation or test, where there are several")


def _usual(add: Any, out: str, *endings: str) -> None:
    about = "a folder, a file, a hub id, or 'random'; without it VITMSN_MODEL, or the embedded model"
    add("--model", default=os.environ.get("VITMSN_MODEL") or None, help=about)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    add("--out", type=_ending(*endings) if endings else str, help=out)
    add("--json", action="store_true", help="print JSON instead of a table")


def _training(add: Any) -> None:
    add("--out", required=True, help="folder of the run: state, log and model; the same command again goes on")
    add("--epochs", type=float)
    add("--batch-size", type=int)
    add("--rate", type=float, help="peak learning rate")
    add("--limit-minutes", type=float, help="stop after so long")
    _measured(add, 0.02)
    _machine(add)


def _measured(add: Any, held_out: float) -> None:
    add("--data", required=True, help="a folder of pictures, parquet files, or a hub data set")
    add("--split", help="train, validation or test, where there are several")
    about = f"share of the pictures to measure on, not trained on (default: {held_out})"
    add("--held-out", type=float, default=held_out, help=about)
    add("--seed", type=int, default=0)


def _machine(add: Any) -> None:
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--threads", type=int, help="of the processor")
    add("--json", action="store_true", help="print JSON instead of a table")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(str(message))
            answer = options.run(options)
        if isinstance(answer, int):
            return answer
        shown = [table(answer.header, answer.rows)] if answer.rows else []
        print(json.dumps(answer.data, indent=1) if options.json else "\n".join([*shown, *map(plain, answer.lines)]))
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ViTMSNError, OSError) as error:
        say(str(error))
        return 2
    return 0 if answer.worked else 1
