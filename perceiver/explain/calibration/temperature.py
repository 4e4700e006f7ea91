"""Temperature: the one number by which a model's scores are divided so that it is as sure as it should be (Guo et al. 2017, section 4.2).

Letters: n rows, k classes.
"""

from math import exp, log

from jaxtyping import Float, Int
from torch import Tensor

LOW, HIGH = 0.05, 20.0
STEPS = 25  # halvings, which leave a millionth
NEVER = -1e4  # stands for the logarithm of a probability of 0, so that nothing is multiplied by infinity


def scaled(log_probabilities: Float[Tensor, "n k"], temperature: float) -> Float[Tensor, "n k"]:
    """Answers at another temperature; which class is likeliest stays."""
    return (log_probabilities.double() / temperature).log_softmax(-1)


def fit_temperature(log_probabilities: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> float:
    """The temperature of the least NLL, between 0.05 and 20.

    NLL is convex in 1/T, and its derivative there is E_p[z] - z_y: where that is zero is found by halving.

    Args:
        log_probabilities: of validation rows, never of those that are reported on.
        target: their right classes.

    Raises:
        ValueError: when there are no rows.
    """
    if not len(target):
        raise ValueError("a temperature is fitted to rows of a validation set, and there are none")
    scores = log_probabilities.double().clamp_min(NEVER)
    wanted = scores.gather(1, target[:, None]).mean()
    low, high = log(LOW), log(HIGH)
    for _ in range(STEPS):
        middle = (low + high) / 2
        expected = ((scores / exp(middle)).softmax(-1) * scores).sum(-1).mean()
        low, high = (middle, high) if expected > wanted else (low, middle)
    return exp((low + high) / 2)
