"""Hide patches of pictures: what is left of the embedding, curves, and the patches that decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vitmsn.cli.attention import counted, seen
from vitmsn.cli.inputs import Inputs, Options, load_encoder
from vitmsn.cli.output import Answer, PictureFiles, percent

if TYPE_CHECKING:
    import numpy as np

    from vitmsn import robustness
    from vitmsn.encoder import Classification, Encoder


def mask(options: Options) -> Answer:
    """One mask of each picture, or its curves (``--curve``), or the patches that decide (``--search``)."""
    encoder, inputs = load_encoder(options), Inputs(options.inputs)
    if options.curve:
        return _curve(options, encoder, inputs)
    if options.search:
        return _search(options, encoder, inputs)
    return _mask(options, encoder, inputs)


def _sampler(options: Options, grid: tuple[int, int]) -> Callable[[float, int], np.ndarray]:
    from vitmsn import masking

    return lambda ratio, seed: masking.draw_mask(options.kind, grid, ratio, seed)[0].numpy()


def _mask(options: Options, encoder: Encoder, inputs: Inputs) -> Answer:
    import numpy as np

    from vitmsn import draw, masking, robustness

    grid = encoder.grid()
    if options.paint is not None:
        rows_kept = [masking.painted_mask(masking.read_painted(options.paint, grid))[0].numpy()]
    else:
        counted(options.draws, "draws", 64)
        sample = _sampler(options, grid)
        rows_kept = [sample(options.ratio, options.seed + number) for number in range(options.draws)]
    kept = np.zeros(grid, dtype=bool)
    kept.flat[rows_kept[0]] = True
    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "mask"), [], []
    for name, picture in inputs.each():
        full, masked = encoder.embed(picture), encoder.embed(picture, keep_indices=rows_kept[0])
        views = robustness.views(encoder, picture, np.stack(rows_kept))
        pair = np.concatenate([full, masked])
        answers = encoder.classify_embeddings(pair, top_k=options.top_k) if encoder.has_classifier else []
        before, after = [_top(answer) for answer in answers] or (None, None)
        times = [encoder.time(picture), encoder.time(picture, keep_indices=rows_kept[0])]
        similarity = float(robustness.cosine(full, masked)[0])
        around = robustness.centred(encoder, full, masked)
        surprise = None if views.cross_entropy is None else float(views.cross_entropy[0])
        same = None if views.same is None else float(views.same.mean())
        found.append(
            {
                "file": name,
                "kept": int(kept.sum()),
                "total": kept.size,
                "similarity": round(similarity, 6),
                "similarity_centred": None if around is None else round(float(around[0]), 6),
                "similarity_others": _others(views),
                "milliseconds_full": round(times[0], 3),
                "milliseconds_masked": round(times[1], 3),
                "top_before": before,
                "top_after": after,
                "cross_entropy": None if surprise is None else round(surprise, 4),
                "draws": len(rows_kept),
                "similarity_mean": round(float(views.similarity.mean()), 6),
                "similarity_least": round(float(views.similarity.min()), 6),
                "similarity_centred_mean": None if views.centred is None else round(float(views.centred.mean()), 6),
                "similarity_centred_least": None if views.centred is None else round(float(views.centred.min()), 6),
                "answer_kept": same,
                "out": files.save(draw.masked_picture(seen(encoder, picture), kept), name),
            }
        )
        labels = [answer.labels[0] for answer in answers] or ("", "")
        numbers = [f"{similarity:.3f}", "" if around is None else f"{around[0]:.2f}", *(f"{t:.2f}" for t in times)]
        more = ("" if surprise is None else f"{surprise:.2f}", "" if same is None else percent(same))
        rows.append((name, f"{kept.sum()} of {kept.size}", *numbers, *labels, *more))
    columns = ("similarity", "centred", "ms full", "ms masked", "before", "after", "cross-entropy", "answer kept")
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    return Answer(data, ("file", "kept", *columns), rows, _compared(encoder, found), worked=bool(found))


def _others(views: robustness.Views) -> float | None:
    return None if views.others is None else round(views.others, 6)


def _compared(encoder: Encoder, found: list[dict[str, Any]]) -> list[str]:
    """What a reader compares the similarities with."""
    known = [one["similarity_others"] for one in found]
    if not known:
        return []
    if encoder.feature_mean is None:
        return [f"{encoder.name} carries no mean embedding, so no similarity is centred; any two pictures may be alike"]
    plain = sum(known) / len(known)
    return [f"two different pictures have a similarity of about {plain:.2f}, and centred (without the mean) about 0"]


def _curve(options: Options, encoder: Encoder, inputs: Inputs) -> Answer:
    """What hiding more and more does, over ``--draws`` draws of each ratio."""
    import numpy as np

    from vitmsn import draw, robustness

    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "curve"), [], []
    sample = _sampler(options, encoder.grid())
    seeds = range(options.seed, options.seed + counted(options.draws, "draws", 64))
    for name, picture in inputs.each():
        points = list(robustness.curve(encoder, picture, sample, seeds=seeds))
        for point in points:
            views = point.views
            same = "" if views.same is None else percent(float(views.same.mean()))
            loss = "" if views.cross_entropy is None else f"{views.cross_entropy.mean():.2f}"
            spread = f"{views.similarity.mean():.3f}", f"{views.similarity.min():.3f}"
            around = "" if views.centred is None else f"{views.centred.mean():.2f}"
            times = f"{point.milliseconds:.2f}", f"{point.ideal:.2f}"
            rows.append((name, f"{point.ratio:.2f}", point.kept, *spread, around, same, loss, *times))
        similarities = [point.views.similarity for point in points]
        centred = [point.views.centred for point in points]
        lines = {"similarity": np.stack(similarities, axis=1)}
        if encoder.feature_mean is not None:
            lines["centred"] = np.stack([values for values in centred if values is not None], axis=1)
        chart = draw.curve(
            [100 * point.ratio for point in points],
            lines,
            x_label="patches hidden, %",
            y_label="cosine similarity to the full view",
        )
        found.append(
            {
                "file": name,
                "hidden": [point.ratio for point in points],
                "kept": [point.kept for point in points],
                "similarity": [values.round(6).tolist() for values in similarities],
                "similarity_centred": [None if values is None else values.round(6).tolist() for values in centred],
                "similarity_others": _others(points[0].views),
                "answer_kept": [None if p.views.same is None else p.views.same.tolist() for p in points],
                "cross_entropy": [
                    None if p.views.cross_entropy is None else p.views.cross_entropy.astype(float).round(4).tolist()
                    for p in points
                ],
                "milliseconds": [round(point.milliseconds, 3) for point in points],
                "milliseconds_ideal": [round(point.ideal, 3) for point in points],
                "out": files.save(chart, name),
            }
        )
    columns = ("kept", "similarity", "worst", "centred", "answer kept", "cross-entropy", "ms", "ms ideal")
    data = {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}
    return Answer(data, ("file", "hidden", *columns), rows, _compared(encoder, found), worked=bool(found))


def _search(options: Options, encoder: Encoder, inputs: Inputs) -> Answer:
    """The patches that change the answer when hidden, and those that keep it alone."""
    import numpy as np

    from vitmsn import draw, look, robustness

    files, found, rows = PictureFiles(options.out, len(inputs.files) == 1, "search"), [], []
    grid = encoder.grid()

    def places(indices: np.ndarray) -> list[list[int]]:
        return [[int(index) // grid[1] + 1, int(index) % grid[1] + 1] for index in indices]

    for name, picture in inputs.each():
        kind = "cls" if options.search == "attention" else "relevance"
        scores = look.look(encoder, picture, kind).values.ravel()
        one = robustness.search(encoder, picture, scores, seed=options.seed)
        kept = np.zeros(grid, dtype=bool)
        kept.flat[one.keep] = True
        changes_to = None if one.flip is None else one.flip_steps[-1].answer
        found.append(
            {
                "file": name,
                "answer": one.answer,
                "kind": one.kind,
                "patches": one.patches,
                "changes": None if one.flip is None else places(one.flip),
                "changes_to": changes_to,
                "keeps": places(one.keep),
                "changes_random": one.flip_random,
                "keeps_random": one.keep_random,
                "out": files.save(draw.masked_picture(seen(encoder, picture), kept), name),
            }
        )
        flip = "none" if one.flip is None else len(one.flip)
        chance = ", ".join("none" if size is None else str(size) for size in one.flip_random)
        kept_random = ", ".join(map(str, one.keep_random))
        rows.append((name, one.answer, flip, chance, changes_to or "", len(one.keep), kept_random))
    header = ("file", "answer", "hide", "at random", "to get", "keep", "at random")
    line = "hide: patches whose hiding changes the answer; keep: patches that alone keep it; the fewest found"
    return Answer(
        {"model": encoder.name, "pictures": found, "skipped": inputs.skipped}, header, rows, [line], bool(found)
    )


def _top(answer: Classification) -> list[dict[str, Any]]:
    pairs = zip(answer.labels, answer.probabilities, strict=True)
    return [{"label": label, "probability": round(share, 6)} for label, share in pairs]
