"""Explanations: ways to say which input tokens an answer rests on. Which of them may be believed is measured (`perceiver.explain.faithfulness`).

Letters: b rows, m tokens of a modality.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perceiver.explain.attention.flow import GRADIENT, ROLLOUT, VALUE_NORM, Way, relevance
from perceiver.explain.attention.gradients import integrated_gradients
from perceiver.explain.attention.passage import Passage, Weighed, following, label, numbered
from perceiver.explain.attention.statistics import statistics
from perceiver.explain.subject import Batch, Subject

INTEGRATED = "integrated gradients"
Relevance = dict[str, Float[Tensor, "b m"]]


@dataclass(frozen=True)
class Explanation:
    """A way to say which tokens an answer rests on.

    Attributes:
        name: short name.
        label: for people.
        explain: from a subject, a batch and the class of each row that is explained, to a number a token, larger for more.
    """

    name: str
    label: str
    explain: Callable[[Subject, Batch, Tensor], Relevance]


def passage_of(subject: Subject, batch: Batch) -> Passage:
    """The attention of one forward pass, without gradients."""
    with following(subject.model) as passage, torch.no_grad():
        subject.scores(batch)
    return passage()


def attention_of(read: int, subject: Subject, batch: Batch, chosen: Int[Tensor, " b"]) -> Relevance:
    """What each token receives of one read of the inputs, mean over heads and latents."""
    weighed = Weighed(passage_of(subject, batch).reads[read])
    return split(statistics(weighed).received.mean(1), weighed.sizes, subject)


def followed(way: Way, subject: Subject, batch: Batch, chosen: Int[Tensor, " b"]) -> Relevance:
    """What a flow from the answer to the inputs hands to each token."""
    with following(subject.model) as passage, torch.set_grad_enabled(way.needs_gradient):
        score = subject.log_odds(batch, chosen)
    found = relevance(passage(), way, score if way.needs_gradient else None)
    subject.charge(len(chosen) if way.needs_gradient else 0)
    return {name: part[:, 0].detach() for name, part in found.items() if name in subject.modalities}


def integrated(subject: Subject, batch: Batch, chosen: Int[Tensor, " b"]) -> Relevance:
    """What each token adds to the log-odds of the answer."""
    return integrated_gradients(subject, batch, lambda: subject.log_odds(batch, chosen))


def split(received: Float[Tensor, "b _"], sizes: Mapping[str, int], subject: Subject) -> Relevance:
    """One value a token by modality, without what belongs to none."""
    parts = dict(zip(sizes, received.split(list(sizes.values()), -1), strict=True))
    return {name: part for name, part in parts.items() if name in subject.modalities}


def explanations(passage: Passage) -> list[Explanation]:
    """All that there are for a model whose passage can be followed: the attention of each read by itself, three flows, and a gradient."""
    names = numbered([label(call.layer) for call in passage.reads])
    found = [
        Explanation(f"attention {number + 1}", f"Attention of read {number + 1} ({name})", partial(attention_of, number))
        for number, name in enumerate(names)
    ]
    return [
        *found,
        Explanation("rollout", "Attention rollout", partial(followed, ROLLOUT)),
        Explanation("value norm", "Rollout weighted by the length of values", partial(followed, VALUE_NORM)),
        Explanation("gradient x attention", "Gradient x attention", partial(followed, GRADIENT)),
        Explanation(INTEGRATED, "Integrated gradients", integrated),
    ]
