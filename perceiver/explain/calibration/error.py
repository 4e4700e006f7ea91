"""Calibration error: of all answers that a model is 90 % sure of, are 90 % right?

Letters: n rows, k classes, s draws.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

BINS = 15


def confidence(log_probabilities: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """The probability of the likeliest class."""
    return log_probabilities.double().amax(-1).exp().clamp_max(1)


def equal_width(sure: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The bin of each confidence, 15 bins equally wide, each with its upper end. The last one holds 1 itself, which torchmetrics counts apart."""
    return ((sure * BINS).ceil().long() - 1).clamp(0, BINS - 1)


def equal_mass(sure: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The bin of each confidence, 15 bins with equally many rows, but that equal confidences share one: in which order rows come must not matter."""
    edges = torch.quantile(sure, torch.arange(1, BINS, dtype=sure.dtype) / BINS)
    return torch.bucketize(sure.contiguous(), edges)


def calibration_error(sure: Float[Tensor, " n"], hits: Float[Tensor, "*s n"], bins: Int[Tensor, " n"]) -> Float[Tensor, "*s"]:
    """ECE (Naeini et al. 2015; Guo et al. 2017, eq. 3): |accuracy - confidence| of each bin, weighted by its rows.

    Args:
        sure: confidence of each row.
        hits: 1 for those that are right, 0 for the others.
        bins: of each row.
    """
    members = F.one_hot(bins, BINS).to(sure)
    return ((hits.to(sure) - sure) @ members).abs().sum(-1) / len(sure)


def surplus(sure: Float[Tensor, " n"], hits: Float[Tensor, " n"], bins: Int[Tensor, " n"]) -> Float[Tensor, "n bins"]:
    """What each row adds to its bin, of which the error is the sum of absolute means: for resampling rows while bins stay as they are."""
    return F.one_hot(bins, BINS).to(sure) * (hits.to(sure) - sure)[:, None]


def error_by_chance(sure: Float[Tensor, " n"], bins: Int[Tensor, " n"], draws: int = 1000) -> Float[Tensor, " s"]:
    """The error of a model that is calibrated by construction: of these confidences, with labels drawn from its own probabilities.

    It is never 0, and the larger the fewer the rows (Vaicenavicius et al. 2019). A label so drawn is the likeliest class with the probability that is
    the confidence.
    """
    generator = torch.Generator().manual_seed(0)
    hits = torch.rand(draws, len(sure), generator=generator, dtype=sure.dtype) < sure
    return calibration_error(sure, hits.to(sure), bins)


def brier(log_probabilities: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Squared distance of each row's probabilities from the right answer, sum over classes (Brier 1950); from 0 to 2."""
    found = log_probabilities.double().exp()
    return (found - F.one_hot(target, found.shape[1])).square().sum(-1)
