"""How good frozen features are: kNN, linear probe, and the paper's low-shot protocol.

    pictures -> features, once -> kNN | linear probe | a few labels a class -> Report

The low-shot protocol is that of MSN (arXiv 2204.07141, section 5, and its original code): each row of features is
centered on its own mean and scaled to length 1, then a multinomial logistic regression without intercept is fitted with
the penalty lambda / n, lambda = .0025. The original takes the CLS token before the final LayerNorm; users of
transformers take it after. Both are offered, by name, and raw pixels to compare with.

Letters: N training rows, M test rows, D features, C classes. Accuracies are shares, 0..1.
"""

from vitmsn.lowshot.evaluation import evaluate
from vitmsn.lowshot.features import FEATURES, Extracted, extract
from vitmsn.lowshot.few_labels import CENTERINGS, PENALTY, draw_shots, low_shot, prepare, shots_name
from vitmsn.lowshot.neighbors import knn_accuracy
from vitmsn.lowshot.probe import LinearProbe, linear_probe
from vitmsn.lowshot.report import Report, ReportRow
from vitmsn.lowshot.rows import Progress

__all__ = [
    "CENTERINGS",
    "FEATURES",
    "PENALTY",
    "Extracted",
    "LinearProbe",
    "Progress",
    "Report",
    "ReportRow",
    "draw_shots",
    "evaluate",
    "extract",
    "knn_accuracy",
    "linear_probe",
    "low_shot",
    "prepare",
    "shots_name",
]
