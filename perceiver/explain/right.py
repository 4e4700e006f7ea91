"""Right: which answers are right, and how many would be by chance.

Letters: n rows, k classes.
"""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from perceiver.explain.examples import Examples

TIE = 1e-5  # classes whose logarithms of probability are closer than this are equally likely


def votes(log_probabilities: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """1 for the likeliest class of each row; where several are, they share it, so that a model which knows nothing is right as often as chance."""
    best = (log_probabilities >= log_probabilities.amax(-1, keepdim=True) - TIE).double()
    return best / best.sum(-1, keepdim=True)


def right(log_probabilities: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """1 for each row whose likeliest class is the right one, 0 for the others; a tie counts its share. The mean is the accuracy."""
    return votes(log_probabilities).gather(1, target[:, None])[:, 0]


def log_likelihood(log_probabilities: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logarithm of the probability of the right class of each row, in nats. The mean is minus the NLL."""
    return log_probabilities.double().gather(1, target[:, None])[:, 0]


def class_shares(target: Int[Tensor, " n"], classes: int) -> Float[Tensor, " k"]:
    """The share of the rows that each class has; 0 for one that is never seen."""
    return torch.bincount(target, minlength=classes).double() / max(len(target), 1)


def majority(target: Int[Tensor, " n"], classes: int) -> float:
    """The accuracy of always naming the commonest class: the best that there is without looking at a row."""
    return float(class_shares(target, classes).max())


def right_when_shuffled(log_probabilities: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """How often each row's answer would be right if the labels of all rows were shuffled: exact, over all orders."""
    return votes(log_probabilities) @ class_shares(target, log_probabilities.shape[1])


def by_chance(log_probabilities: Float[Tensor, "n k"], target: Int[Tensor, " n"]) -> dict[str, float]:
    """Accuracies that need no eyes: a guess, always the commonest class, and the same answers under shuffled labels."""
    classes = log_probabilities.shape[1]
    shuffled = float(right_when_shuffled(log_probabilities, target).mean())
    return {"chance": 1 / classes, "majority": majority(target, classes), "shuffled label": shuffled}


def unlabelled(examples: Examples, classes: int) -> str:
    """Why there is no telling which answers are right; empty when there is.

    Args:
        examples: the rows.
        classes: number of classes of their dataset.
    """
    if not len(examples):
        return f"there are no rows of {examples.dataset}"
    if not classes:
        return f"{examples.dataset} has no classes to be right about"
    if any("target" not in row for row in examples.rows):
        return f"rows of {examples.dataset} have no `target`, and without labels nothing is right or wrong"
    wrong: Shaped[Tensor, " r"] = examples.target[(examples.target < 0) | (examples.target >= classes)]
    return f"{examples.dataset} has a row of class {int(wrong[0])}, and the model knows 0 to {classes - 1}" if len(wrong) else ""
