"""Accuracy of a vote of the nearest training rows."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike

from vitmsn.errors import InputError
from vitmsn.lowshot.rows import BLOCK, blocks, checked, right_among, unit


@torch.inference_mode()
def knn_accuracy(
    train_X: ArrayLike,
    train_y: ArrayLike,
    test_X: ArrayLike,
    test_y: ArrayLike,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Accuracy of a vote of the ``k`` nearest training rows, each with weight exp(cosine / temperature).

    Rows are centered on the training mean and scaled to length 1. Computed in blocks: 100,000 x 5,000 rows take some
    100 MB beside the rows themselves.
    """
    if k < 1 or not temperature > 0:
        raise InputError(f"k is {k} and temperature {temperature}; k must be at least 1 and temperature above 0.")
    rows, codes, queries, wanted, classes = checked(train_X, train_y, test_X, test_y)
    mean = rows.mean(0)
    rows, queries = unit(rows - mean), unit(queries - mean)
    right = 0
    for query in blocks(len(queries), 512):
        nearest, voters = torch.empty(len(queries[query]), 0), torch.empty(len(queries[query]), 0, dtype=torch.int64)
        for block in blocks(len(rows), 8 * BLOCK):
            cosine = queries[query] @ rows[block].T
            best = cosine.topk(min(k, cosine.shape[1]), dim=1, sorted=False)
            nearest = torch.cat([nearest, best.values], 1)
            voters = torch.cat([voters, codes[block][best.indices]], 1)
        best = nearest.topk(min(k, nearest.shape[1]), dim=1)
        votes = torch.zeros(len(nearest), len(classes))
        weight = ((best.values - best.values[:, :1]) / temperature).exp()
        votes.scatter_add_(1, voters.gather(1, best.indices), weight)
        right += right_among(votes, wanted[query], 1)
    return right / len(queries)
