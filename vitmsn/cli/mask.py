"""`mask`: hide patches of pictures, and compare embedding, prediction and time; curves, and the deciding patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vitmsn import limits
from vitmsn.cli.attention import counted, seen
from vitmsn.cli.inputs import Inputs, Options, load_encoder
from vitmsn.cli.output import PictureFiles, Result, percent

if TYPE_CHECKING:
    import numpy as np

    from vitmsn import robustness
    from vitmsn.encoder import Encoder


def mask(options: Options) -> Result:
    """One mask of each picture, or its curves (``--curve``), or the deciding patches (``--search``)."""
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    if options.curve:
        return _curve(options, encoder, inputs)
    if options.search:
        return _search(options, encoder, inputs)
    return _mask(options, encoder, inputs)


def _sampler(options: Options, grid: tuple[int, int]) -> Callable[[float, int], np.ndarray]:
    from vitmsn import masking

    return lambda ratio, seed: masking.draw_mask(options.kind, grid, ratio, seed)[0].numpy()


def _mask(options: Options, encoder: Encoder, inputs: Inputs) -> Result:
    import numpy as np

    from vitmsn import draw, masking, robustness

    grid = encoder.grid()
    if options.paint is not None:
        keeps = [masking.painted_mask(masking.read_painted(options.paint, grid))[0].numpy()]
    else:
        counted(options.draws, "draws", limits.MAX_DRAWS)
        sample = _sampler(options, grid)
        keeps = [sample(options.ratio, options.seed + number) for number in range(options.draws)]
    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "mask"), [], []
    for name, picture in inputs.each():
        one = robustness.compare(encoder, picture, keeps[0], top_k=options.top_k, timed=True)
        views = robustness.views(encoder, picture, np.stack(keeps))
        out = files.save(draw.masked_picture(seen(encoder, picture), one.kept), name)
        found.append({"file": name, **one.to_dict(), **views.to_dict(), "out": out})
        rows.append(_row(name, one, views))
    columns = ("similarity", "centered", "ms full", "ms masked", "before", "after", "cross-entropy", "answer kept")
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    return Result(data, ("file", "kept", *columns), rows, _compared(encoder, found), worked=bool(found))


def _row(name: str, one: robustness.Comparison, views: robustness.Views) -> tuple[str, ...]:
    return (
        name,
        f"{one.count} of {one.total}",
        f"{one.similarity:.3f}",
        "" if one.centered is None else f"{one.centered:.2f}",
        *(f"{milliseconds:.2f}" for milliseconds in one.milliseconds or ()),
        *("" if said is None else said.labels[0] for said in (one.before, one.after)),
        "" if one.assignment is None else f"{one.assignment.cross_entropy:.2f}",
        "" if views.same is None else percent(float(views.same.mean())),
    )


def _compared(encoder: Encoder, found: list[dict[str, Any]]) -> list[str]:
    """What to compare the similarities with."""
    known = [one["similarity_others"] for one in found]
    if not known:
        return []
    if encoder.feature_mean is None:
        return [f"{encoder.name} has no feature mean, so no similarity is centered; any two pictures may be similar"]
    plain = sum(known) / len(known)
    return [f"two different pictures have a similarity of about {plain:.2f}, and centered on the feature mean about 0"]


def _curve(options: Options, encoder: Encoder, inputs: Inputs) -> Result:
    """Similarity, predictions and time at every mask ratio, over ``--draws`` masks each."""
    from vitmsn import draw, robustness

    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "curve"), [], []
    sample = _sampler(options, encoder.grid())
    seeds = range(options.seed, options.seed + counted(options.draws, "draws", limits.MAX_DRAWS))
    for name, picture in inputs.each():
        points = list(robustness.curve(encoder, picture, sample, seeds=seeds))
        rows += [_curve_row(name, point) for point in points]
        chart = draw.curve(
            [100 * point.ratio for point in points],
            _lines(points),
            x_label="patches hidden, %",
            y_label="cosine similarity to the full view",
        )
        found.append({"file": name, **robustness.MaskCurve(points).to_dict(), "out": files.save(chart, name)})
    columns = ("kept", "similarity", "worst", "centered", "answer kept", "cross-entropy", "ms", "ms ideal")
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    return Result(data, ("file", "mask ratio", *columns), rows, _compared(encoder, found), worked=bool(found))


def _curve_row(name: str, point: robustness.CurvePoint) -> tuple[object, ...]:
    views = point.views
    return (
        name,
        f"{point.ratio:.2f}",
        point.kept,
        f"{views.similarity.mean():.3f}",
        f"{views.similarity.min():.3f}",
        "" if views.centered is None else f"{views.centered.mean():.2f}",
        "" if views.same is None else percent(float(views.same.mean())),
        "" if views.cross_entropy is None else f"{views.cross_entropy.mean():.2f}",
        f"{point.milliseconds:.2f}",
        f"{point.ideal:.2f}",
    )


def _lines(points: list[robustness.CurvePoint]) -> dict[str, np.ndarray]:
    """(masks, ratios) of each line of the chart."""
    import numpy as np

    lines = {"similarity": np.stack([point.views.similarity for point in points], axis=1)}
    around = [point.views.centered for point in points if point.views.centered is not None]
    return lines | ({"centered": np.stack(around, axis=1)} if around else {})


def _search(options: Options, encoder: Encoder, inputs: Inputs) -> Result:
    """The patches that change the prediction when hidden, and those that keep it when all others are hidden."""
    import numpy as np

    from vitmsn import draw, look, robustness

    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "search"), [], []
    kind = "cls" if options.search == "attention" else "relevance"
    for name, picture in inputs.each():
        scores = look.look(encoder, picture, kind).values.ravel()
        one = robustness.search(encoder, picture, scores, seed=options.seed)
        kept = np.zeros(one.grid, dtype=bool)
        kept.flat[one.keep] = True
        out = files.save(draw.masked_picture(seen(encoder, picture), kept), name)
        found.append({"file": name, **one.to_dict(), "out": out})
        flip = "none" if one.flip is None else len(one.flip)
        chance = ", ".join("none" if size is None else str(size) for size in one.flip_random)
        kept_random = ", ".join(map(str, one.keep_random))
        rows.append((name, one.answer, flip, chance, one.changes_to or "", len(one.keep), kept_random))
    header = ("file", "answer", "hide", "at random", "to get", "keep", "at random")
    line = "hide: patches whose hiding changes the answer; keep: patches that alone keep it; the fewest found"
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    return Result(data, header, rows, [line], bool(found))
