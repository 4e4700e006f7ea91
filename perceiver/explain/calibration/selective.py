"""Selective answers: how much less often a model is wrong when it may keep silent where it is least sure.

Letters: n rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def risk_coverage(sure: Float[Tensor, " n"], hits: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The share of wrong answers among the 1, 2, ... n surest rows (El-Yaniv and Wiener 2010). Rows that are equally sure come in no order: all of
    them are as wrong as they are on average.

    Args:
        sure: confidence of each row.
        hits: 1 for those that are right, 0 for the others.
    """
    ordered, order = sure.sort(descending=True, stable=True)
    _, ties, sizes = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    errors = 1 - hits[order].double()
    mean = torch.zeros(len(sizes), dtype=errors.dtype).index_add_(0, ties, errors) / sizes
    return mean[ties].cumsum(0) / torch.arange(1, len(sure) + 1)


def aurc(sure: Float[Tensor, " n"], hits: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Area under the risk-coverage curve (Geifman et al. 2019): mean risk over all coverages. Low is good; the share of errors in random order."""
    return risk_coverage(sure, hits).mean()
