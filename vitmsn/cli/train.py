"""`pretrain`, `finetune`, `distil` and `head`: make a model folder. The work is done by `vitmsn.training`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

from vitmsn.cli.inputs import Options
from vitmsn.cli.output import Bar, Result, percent, say
from vitmsn.errors import InputError

if TYPE_CHECKING:
    from vitmsn.checkpoint import Checkpoint
    from vitmsn.training.calibration import Calibration
    from vitmsn.training.card import Kinds
    from vitmsn.training.finetune import FinetuneRecipe
    from vitmsn.training.recipe import Recipe

    T = TypeVar("T", bound=FinetuneRecipe)

GO_ON = "not finished: give the same command again to go on"
JUDGED = ("held-out pictures", "top-1", "top-5", "sure from")


# --- pretrain ------------------------------------------------------------------------------------------------------


def pretrain(options: Options) -> Result | int:
    from vitmsn.training import pretrain as training
    from vitmsn.training.recipe import PRESETS

    if not (options.out or options.watch):
        raise InputError("A run needs a folder to keep its state, log and model in; give --out.")
    _check_preset(options.preset)
    if options.data is None and not PRESETS[options.preset].own_data:
        raise InputError(f"The preset {options.preset} has no data of its own; give --data.")
    _use_threads(options)
    init = training.initial(options.init) if options.init else None
    recipe = _recipe(options, init)
    given = {
        "init": init,
        "split": options.split,
        "held_out": options.held_out,
        "stream": True if options.stream else None,
        "device": options.device,
        "dtype": options.dtype,
        "compiled": options.compile,
        "progress": Bar().named,
    }
    if options.watch:
        return _watch(options, training.prepare(recipe, options.data, **given))
    found = training.run(
        recipe,
        options.data,
        options.out,
        **given,
        limit_minutes=options.limit_minutes,
        log_every=options.log_every,
        save_every=options.save_every,
        monitor_every=options.monitor_every,
        say=say,
    )
    if found is None:  # the first process answers for all
        return 0
    row = (found.steps, found.total_steps, found.epochs, "no labels" if found.knn is None else percent(found.knn))
    start = found.knn_at_the_start
    lines = [
        *([] if start is None else [f"kNN was {percent(start)} before the first step"]),
        f"{found.model} is a model for --model; the log is {found.out / 'log.csv'}, and a figure beside it",
        *([] if found.finished else [GO_ON]),
    ]
    return Result(found.to_dict(), ("steps", "of", "epochs", "kNN of held-out pictures"), [row], lines)


def _watch(options: Options, prepared: Any) -> int:
    """The run as JSON lines on stdout, nothing on disk; it ends when the reader closes the pipe."""
    from vitmsn.training.live import watch

    seconds = None if options.limit_minutes is None else 60 * options.limit_minutes
    pictures = prepared.trainer, prepared.labels, prepared.queries, prepared.wanted
    for told in watch(*pictures, every=options.log_every, limit_seconds=seconds):
        print(json.dumps(told, separators=(",", ":")), flush=True)
    return 0


def _use_threads(options: Options) -> None:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)


def _check_preset(name: str) -> None:
    from vitmsn.training.recipe import PRESETS

    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; choose among {', '.join(PRESETS)}.")


def _recipe(options: Options, init: Checkpoint | None) -> Recipe:
    """The preset with what the options change."""
    from dataclasses import replace

    from vitmsn.training.recipe import PRESETS, Stage

    _check_preset(options.preset)
    recipe = PRESETS[options.preset]
    names = ("seed", "epochs", "batch_size", "mask_ratio", "focal_views", "prototypes")
    changes: dict[str, Any] = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.views:
        total = sum(share for share, _, _ in options.views)
        changes["stages"] = tuple(Stage(share / total, target, focal) for share, target, focal in options.views)
    if init is not None:
        changes["model"] = init.config
    recipe = replace(recipe, **changes)
    if init is not None:
        recipe = recipe.starting_from(init)
        if options.prototypes not in (None, recipe.prototypes):
            raise InputError(f"{init.source} has {recipe.prototypes} prototypes; leave --prototypes out.")
    if options.rate is not None:
        recipe = recipe.with_rate(options.rate)
    if options.freeze_backbone:
        recipe = replace(recipe, freeze_backbone=True)
    if options.as_original:
        recipe = recipe.as_original()
    return recipe.with_settings(dict(options.set or ()))


# --- finetune, head ------------------------------------------------------------------------------------------------


def finetune(options: Options) -> Result:
    import torch

    from vitmsn.training import finetune as training

    _use_threads(options)
    found = training.run(
        options.data,
        options.out,
        model=options.model,
        recipe=_finetune_recipe(options, training.FinetuneRecipe),
        kinds=_kinds(options),
        split=options.split,
        held_out=options.held_out,
        device=options.device,
        dtype=getattr(torch, options.dtype),
        limit_minutes=options.limit_minutes,
        say=say,
        progress=Bar().named,
    )
    notes = found.calibration.notes
    lines = [*([] if found.finished else [GO_ON]), *notes, f"{found.model} loads here and in transformers"]
    row = (found.steps, found.total_steps, found.epochs, *_cells(found.calibration))
    return Result(found.to_dict(), ("steps", "of", "epochs", *JUDGED), [row], lines)


def distil(options: Options) -> Result | int:
    import torch

    from vitmsn.training import distil as training
    from vitmsn.training.answers import TeacherViews

    _use_threads(options)
    recipe = _finetune_recipe(options, training.DistilRecipe)
    found = training.run(
        options.data,
        options.out,
        options.teacher,
        model=options.model,
        layers=options.layers,
        recipe=recipe,
        views=TeacherViews(options.teacher_views, options.teacher_side, recipe.scale),
        answers=options.answers,
        soft_labels=options.soft_labels,
        kinds=_kinds(options),
        split=options.split,
        held_out=options.held_out,
        device=options.device,
        precision=options.precision,
        dtype=getattr(torch, options.dtype),
        limit_minutes=options.limit_minutes,
        log_every=options.log_every,
        save_every=options.save_every,
        monitor_every=options.monitor_every,
        say=say,
        progress=Bar().named,
    )
    if found is None:  # the first process answers for all
        return 0
    notes = found.calibration.notes if found.calibration else ()
    lines = [*([] if found.finished else [GO_ON]), *notes, f"{found.model} loads here and in transformers"]
    right = "no labels" if found.accuracy is None else percent(found.accuracy)
    row = (found.steps, found.total_steps, found.epochs, right, percent(found.agreement))
    return Result(found.to_dict(), ("steps", "of", "epochs", "right", "as the teacher says"), [row], lines)


def _finetune_recipe(options: Options, kind: type[T]) -> T:
    from vitmsn.training.finetune import Stretch
    from vitmsn.training.recipe import with_settings

    given = {"epochs": options.epochs, "batch_size": options.batch_size, "peak_rate": options.rate}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if options.views:
        total = sum(share for share, _, _ in options.views)
        changes["stretches"] = tuple(Stretch(share / total, side, ratio) for share, side, ratio in options.views)
    recipe: T = with_settings(kind(seed=options.seed, **changes), dict(options.set or ()))
    return recipe


def head(options: Options) -> Result:
    import torch

    from vitmsn.training import head as training

    _use_threads(options)
    found = training.run(
        options.data,
        options.out,
        model=options.model,
        kinds=_kinds(options),
        split=options.split,
        held_out=options.held_out,
        seed=options.seed,
        device=options.device,
        dtype=getattr(torch, options.dtype),
        say=say,
        progress=Bar().named,
    )
    lines = [*found.calibration.notes, f"{found.model} loads here and in transformers"]
    return Result(found.to_dict(), JUDGED, [_cells(found.calibration)], lines)


def _kinds(options: Options) -> Kinds | None:
    from vitmsn.training.card import read_kinds

    return read_kinds(options.kinds) if options.kinds else None


def _cells(found: Calibration) -> tuple[object, ...]:
    sure = percent(found.not_sure_below) if found.not_sure_below <= 1 else "never"
    return found.held_out["pictures"], percent(found.held_out["top1"]), percent(found.held_out["top5"]), sure


def calibrate(options: Options) -> Result:
    import torch

    from vitmsn.training import calibration

    _use_threads(options)
    found = calibration.run(
        options.source,
        options.data,
        options.out,
        split=options.split,
        share=options.share,
        kinds=_kinds(options),
        recipe=options.recipe,
        dtype=getattr(torch, options.dtype),
        progress=Bar().named,
    )
    data = {"model": options.out, "temperature": round(found.temperature, 4), "not_sure_below": found.not_sure_below}
    lines = [*found.notes, f"{options.out} loads here and in transformers"]
    return Result({**data, "held_out": found.held_out}, JUDGED, [_cells(found)], lines)
