"""Make a model folder: pretrain a backbone, fine-tune it on classes, fit a head on it, convert it from elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitmsn.cli.inputs import Options
from vitmsn.cli.output import Answer, Bar, percent, say
from vitmsn.errors import DataError, InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vitmsn.checkpoint import Checkpoint
    from vitmsn.model import ViTMSNForImageClassification
    from vitmsn.training.recipe import Recipe


# --- pretrain, finetune --------------------------------------------------------------------------------------------

QUERIES, REFERENCE = 2000, 10_000  # pictures of the kNN that watches a run: held out, and compared with
DRAW_SECONDS = 60  # at least, between two figures of the log
GO_ON = "not finished: give the same command again to go on"


def pretrain(options: Options) -> Answer | int:
    from vitmsn import checkpoint
    from vitmsn.encoder import choose_dtype
    from vitmsn.lowshot import knn_accuracy
    from vitmsn.training import log_figure, loop
    from vitmsn.training import pretrain as training
    from vitmsn.training.distributed import Processes
    from vitmsn.training.picture_store import on_device

    if not (options.out or options.watch):
        raise InputError("A run needs a folder to keep its state, log and model in; give --out.")
    init = _initial(checkpoint.load(options.init)) if options.init else None
    recipe, out = _recipe(options, init), Path(options.out or "")
    processes = Processes.from_environment(_device(options))
    train, (pictures, labels), (queries, wanted) = _pretraining_data(options, recipe.picture_size, processes.first)
    precision = choose_dtype(options.dtype, processes.device)
    trainer = training.Trainer(
        recipe,
        on_device(pictures, processes.device),
        init=init,
        processes=processes,
        precision=precision,
        compiled=options.compile,
    )
    if options.watch:
        return _watch(options, trainer, labels, queries, wanted)
    known, asked = _spread(labels >= 0, REFERENCE), _spread(wanted >= 0, QUERIES)

    def knn() -> dict[str, float]:
        X, T = (training.embed(trainer.target_model, *pair).numpy() for pair in ((pictures, known), (queries, asked)))
        return {"knn": knn_accuracy(X, labels[known], T, wanted[asked])}

    drawn = time.monotonic()

    def draw(row: dict[str, float]) -> None:
        nonlocal drawn
        if time.monotonic() - drawn > DRAW_SECONDS or row["step"] == trainer.steps:
            log_figure.figure(out / "log.csv", out / "log.png")
            drawn = time.monotonic()

    start = knn()["knn"] if options.data is None and processes.first else None
    finished = loop.run(
        trainer,
        out,
        limit_minutes=options.limit_minutes,
        log_every=options.log_every,
        save_every=options.save_every,
        monitor=knn if len(known) and len(asked) else None,
        monitor_every=options.monitor_every or (1000 if options.data else max(1, trainer.steps // 8)),
        logged=draw,
        say=say,
    )
    if not processes.first:
        return 0
    last = knn() if len(known) and len(asked) else {}
    epochs = round(trainer.step / trainer.steps_per_epoch, 3)
    card = {
        "trained_on": train,
        "pictures": len(pictures),
        "epochs": epochs,
        "initialised_from": options.init,
    }
    card |= {"processes": processes.count, "precision": str(precision).removeprefix("torch.")}
    card |= {name: round(value, 4) for name, value in last.items()}
    if start is not None:
        card["knn_at_the_start"] = round(start, 4)
    training.export(trainer, out / "model", card)
    data = {"out": str(out), "model": str(out / "model"), "finished": finished, "steps": trainer.step, **card}
    row = (trainer.step, trainer.steps, epochs, percent(last["knn"]) if last else "no labels")
    lines = [
        *([f"kNN was {percent(start)} before the first step"] if start is not None else []),
        f"{data['model']} is a model for --model; the log is {out / 'log.csv'}, and a figure beside it",
        *([] if finished else [GO_ON]),
    ]
    return Answer(data, ("steps", "of", "epochs", "kNN of held-out pictures"), [row], lines)


def _watch(options: Options, trainer: Any, labels: Tensor, queries: Any, wanted: Tensor) -> int:
    """The run as JSON lines on stdout, nothing on disk; it ends where nobody reads them any more."""
    from vitmsn.training.live import watch

    seconds = None if options.limit_minutes is None else 60 * options.limit_minutes
    for told in watch(trainer, labels, queries, wanted, every=options.log_every, limit_seconds=seconds):
        print(json.dumps(told, separators=(",", ":")), flush=True)
    return 0


def _spread(chosen: Tensor, most: int) -> Tensor:
    """At most ``most`` of the places where ``chosen`` (N,) holds, evenly spread: files are often sorted by class."""
    places = chosen.nonzero().flatten()
    return places[:: max(1, -(-len(places) // most))]


def _device(options: Options) -> Any:
    import torch

    from vitmsn.encoder import choose_device

    if options.threads:
        torch.set_num_threads(options.threads)
    return choose_device(options.device)


def _pretraining_data(options: Options, side: int, talks: bool) -> tuple[str, Any, Any]:
    """(name, pictures and labels to train on, pictures and labels held out)."""
    from vitmsn.data import open_data
    from vitmsn.training import digits
    from vitmsn.training.picture_store import open_pictures

    if options.data is None:
        if options.preset != "digits":
            raise InputError(f"The preset {options.preset} has no data of its own; give --data.")
        return digits.NAME, *digits.load(side)

    def bar(title: str) -> Bar | None:
        return Bar(title) if talks else None

    train, held_out = open_data(options.data, options.split).split(options.held_out)
    stream = True if options.stream else None
    return (
        train.name,
        open_pictures(train, side, stream, bar("reading pictures")),
        open_pictures(held_out, side, stream, bar("and those held out")),
    )


def _read(options: Options, size: int | tuple[int, int]) -> tuple[str, Tensor, Tensor, Tensor, Tensor]:
    """(name, pictures and labels to train on, pictures and labels held out), in memory at the model's own size."""
    from vitmsn.config import pair
    from vitmsn.data import open_data, to_uint8

    side = max(pair(size))
    train, held_out = open_data(options.data, options.split).split(options.held_out)
    read, kept = to_uint8(train, side, Bar("reading pictures")), to_uint8(held_out, side, Bar("and those held out"))
    here = Path(options.data)  # a card names the folder, which a page shows, not the way to it
    return here.resolve().name if here.exists() else train.name, *read, *kept


def _recipe(options: Options, init: Checkpoint | None) -> Recipe:
    """The preset with what the options change."""
    from dataclasses import replace

    from vitmsn.training.recipe import PRESETS, Stage

    if options.preset not in PRESETS:
        raise InputError(f"There is no preset {options.preset!r}; choose among {', '.join(PRESETS)}.")
    recipe = PRESETS[options.preset]
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
    recipe = replace(recipe, **changes)
    if options.as_original:
        recipe = recipe.as_original()
    return recipe.with_settings(dict(options.set or ()))


def _initial(loaded: Checkpoint) -> Checkpoint:
    """What of a checkpoint a run starts from: no mask token, and a head only where it is whole."""
    from dataclasses import replace

    head = loaded.msn_head if {"prototypes", "projector.fc1.weight"} <= set(loaded.msn_head) else {}
    tensors = {name: tensor for name, tensor in loaded.tensors.items() if name != "embeddings.mask_token"}
    return replace(loaded, msn_head=head, tensors=tensors, config=loaded.config.with_labels(num_labels=2))


def finetune(options: Options) -> Answer:
    import torch

    from vitmsn import checkpoint
    from vitmsn.config import pair
    from vitmsn.data import open_data
    from vitmsn.image import ViTMSNImageProcessor
    from vitmsn.training import finetune as tuning
    from vitmsn.training.distributed import Processes
    from vitmsn.training.loop import run
    from vitmsn.training.pretrain import feature_mean

    source = options.model or checkpoint.EMBEDDED
    classes = open_data(options.data, options.split).classes
    if len(classes) < 2:
        raise DataError(
            f"{options.data} has {len(classes)} classes; a classifier needs two or more, a folder for each."
        )
    model = _classifier(source, dict(enumerate(classes)), options.seed)
    config, out = model.config, Path(options.out)
    if Processes.from_environment().count > 1:
        raise InputError("finetune runs in one process; start it without accelerate launch.")
    kinds = _kinds(options.kinds, classes)
    train, pictures, labels, queries, wanted = _read(options, config.image_size)
    known, asked = labels >= 0, wanted >= 0
    tuning.standardise(model, pictures[known])
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
        feature_mean=feature_mean(tuner.average.vit, pictures),
        processor=ViTMSNImageProcessor({"height": size[0], "width": size[1]}).to_dict(),
        card={**card, "not_sure_below": judged.sure, **kinds},
        dtype=getattr(torch, options.dtype),
    )
    data = {"out": str(out), "model": str(out / "model"), "finished": finished, "steps": tuner.step, **card}
    lines = [*([] if finished else [GO_ON]), *judged.notes, f"{data['model']} loads here and in transformers"]
    return Answer(data, ("steps", "of", "epochs", *JUDGED), [(tuner.step, tuner.steps, epochs, *judged.cells)], lines)


def _classifier(source: str | Path, id2label: dict[int, str], seed: int) -> ViTMSNForImageClassification:
    """What fine-tuning starts from: the backbone under a new head. A linear head fitted on frozen features has weights
    far too large to go on from: the loss diverges."""
    import torch

    from vitmsn.config import VARIANTS
    from vitmsn.model import ViTMSNForImageClassification

    torch.manual_seed(seed)
    if source == "random":
        return ViTMSNForImageClassification(VARIANTS["tiny-8-64"].with_labels(id2label=id2label))
    return ViTMSNForImageClassification.from_pretrained(source, id2label=id2label)


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
    from vitmsn.training import finetune as tuning

    temperature, notes = tuning.calibrate(logits[::2], wanted[::2]), []
    try:
        sure = tuning.sure_threshold((logits[1::2] / temperature).softmax(1), wanted[1::2])
    except DataError as error:
        sure, notes = 1.1, [f"{error} It will always say that it is not sure."]  # above every probability
    right = logits.topk(min(5, logits.shape[1])).indices == wanted[:, None]
    top1, top5 = (round(float(right[:, :k].any(1).float().mean()), 4) for k in (1, 5))
    return Judged({"pictures": len(wanted), "top1": top1, "top5": top5}, temperature, round(sure, 4), notes)


def _finetune_recipe(options: Options) -> Any:
    from vitmsn.training.finetune import FinetuneRecipe, Stretch
    from vitmsn.training.recipe import with_settings

    given = {"epochs": options.epochs, "batch_size": options.batch_size, "peak_rate": options.rate}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if options.views:
        total = sum(share for share, _, _ in options.views)
        changes["stretches"] = tuple(Stretch(share / total, side, ratio) for share, side, ratio in options.views)
    return with_settings(FinetuneRecipe(seed=options.seed, **changes), dict(options.set or ()))


# --- head ----------------------------------------------------------------------------------------------------------


def head(options: Options) -> Answer:
    import torch

    from vitmsn import checkpoint, lowshot
    from vitmsn.data import open_data
    from vitmsn.encoder import Encoder
    from vitmsn.training.finetune import fold_temperature

    source, device = options.model or checkpoint.embedded(), str(_device(options))
    dataset = open_data(options.data, options.split)
    classes = dataset.classes
    if len(classes) < 2:
        raise DataError(f"{options.data} has {len(classes)} classes; a classifier needs two or more.")
    kinds = _kinds(options.kinds, classes)
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
    if kinds:
        card |= kinds
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


def _kinds(file: str | None, classes: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """A JSON file's {kind: [label, ...]}, checked against the classes, as a model's card has them; {} for no file."""
    if file is None:
        return {}
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
    return {"kinds": kinds}


# --- convert ---------------------------------------------------------------------------------------------------------


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
