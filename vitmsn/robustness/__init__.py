"""How masking patches changes embedding, answer and prototypes; and which few patches decide the answer.

    compare(encoder, "cat.jpg", keep)          one masked view beside the full one -> Comparison
    views(encoder, "cat.jpg", keeps)           several masked views -> Views
    curve(encoder, "cat.jpg", sample)          similarity as a function of the mask ratio -> points of a MaskCurve
    search(encoder, "cat.jpg")                 the patches that decide the answer -> Search

Each result has ``to_dict()``: plain JSON, the same on the page, over the API and on the command line. There rows and
columns count from 1; in Python patches count from 0, row by row.

An answer is the most probable class, or, without a classifier, the prototype that the picture is assigned to. A model
that is not sure still has one; whether it is sure is another question.

Letters: S masked views of one picture, N patches, K kept, D width, P prototypes.
"""

from __future__ import annotations

from vitmsn.robustness.deciding_patches import ORDERS, Search, SearchStep, search
from vitmsn.robustness.masked_views import (
    QUICK,
    RATIOS,
    Comparison,
    CurvePoint,
    MaskCurve,
    Sampler,
    Views,
    centered,
    compare,
    cosine,
    curve,
    others,
    steady_times,
    times,
    views,
)
from vitmsn.robustness.prediction import Assignment, Predictions, assignment, predict

__all__ = [
    "ORDERS",
    "QUICK",
    "RATIOS",
    "Assignment",
    "Comparison",
    "CurvePoint",
    "MaskCurve",
    "Predictions",
    "Sampler",
    "Search",
    "SearchStep",
    "Views",
    "assignment",
    "centered",
    "compare",
    "cosine",
    "curve",
    "others",
    "predict",
    "search",
    "steady_times",
    "times",
    "views",
]
