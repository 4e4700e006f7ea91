"""Flow: from an answer back through decoder and latents to the inputs, layer by layer.

What each latent, and then each input token, has to do with the answer is a row vector that goes through the passage from its end:
the decoder gives it to the latents, a self-attend layer mixes it among them, and a read hands it to the tokens. It is never a
matrix of latents by inputs, so that inputs may be many. What a layer hands on is a rule:

    attention       its weights, mean over heads (rollout: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers")
    value norm      its weights times the length of what they weigh (Kobayashi et al. 2020, "Attention is Not Only a Weight")
    gradient        its weights times what the answer would gain from more of them, where that is positive (Chefer et al. 2021, "Generic
                    Attention-model Explainability", eq. 5 to 7 and 10)

Letters: b rows, h heads, o output queries, n latents, m input tokens, w head width of values, d latent width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from perceiver.explain.attention.passage import Passage, Weighed, kind_of

Rule = Callable[[Weighed, slice, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Way:
    """How a vector goes through the layers.

    Attributes:
        rule: from a call, some of its queries, their weights (b, h, q, m), and the gradient of the answer by what the call read (b, h, n, w) or
            None, to what each query hands to each key, (b, q, m).
        kept: share that stays with a latent in a layer with a residual. The rest goes through the rule; with None, all of it goes both ways.
        needs_gradient: whether the rule asks for the gradient.
    """

    rule: Rule
    kept: float | None
    needs_gradient: bool = False


def mean_weights(weighed: Weighed, some: slice, weights: Float[Tensor, "b h q m"], gradient: Tensor | None) -> Float[Tensor, "b q m"]:
    """Attention as it is, mean over heads."""
    return weights.mean(1)


def normed_weights(weighed: Weighed, some: slice, weights: Float[Tensor, "b h q m"], gradient: Tensor | None) -> Float[Tensor, "b q m"]:
    """Weights times the length of the values that they weigh, as these reach the output; 1 in sum over the keys."""
    found = torch.einsum("bhqm,bhm->bqm", weights, weighed.lengths)
    return found / found.sum(-1, keepdim=True).clamp_min(1e-12)


def gained_weights(weighed: Weighed, some: slice, weights: Float[Tensor, "b h q m"], gradient: Tensor | None) -> Float[Tensor, "b q m"]:
    """Weights times the gradient by them, where it is positive, mean over heads."""
    assert gradient is not None
    by_weight = gradient[..., some, :].float() @ weighed.v.float().transpose(-1, -2)
    return (by_weight * weights).clamp_min(0).mean(1)


ROLLOUT = Way(mean_weights, kept=0.5)
VALUE_NORM = Way(normed_weights, kept=0.5)
GRADIENT = Way(gained_weights, kept=None, needs_gradient=True)


def handed_on(vector: Float[Tensor, "b o n"], weighed: Weighed, way: Way, gradient: Tensor | None) -> Float[Tensor, "b o m"]:
    """The vector times what each query hands to each key, without ever holding that."""
    found = vector.new_zeros(*vector.shape[:2], weighed.k.shape[-2])
    for some, weights in weighed.chunks():
        found += vector[..., some] @ way.rule(weighed, some, weights, gradient)
    return found


def relevance(passage: Passage, way: Way, score: Tensor | None = None, *, each_query: bool = False) -> dict[str, Float[Tensor, "b o m"]]:
    """How much each input token has to do with the answer, by segment.

    Args:
        passage: of a forward pass; with gradients, if the way needs them.
        way: how it is followed.
        score: (b), what is explained; each row's own.
        each_query: whether each output query is followed by itself (o of them), or their mean (o = 1).

    Raises:
        ValueError: when the passage cannot be followed, or a gradient is needed and there is none.
    """
    if passage.reason:
        raise ValueError(f"attention cannot be followed to the inputs: {passage.reason}")
    gradients: list[Tensor | None] = [None] * len(passage.calls)
    if way.needs_gradient:
        if score is None or not score.requires_grad:
            raise ValueError("this way needs the gradient of a score: run the model with gradients, and pass the score")
        gradients = list(torch.autograd.grad(score.sum(), [call.output for call in passage.calls], retain_graph=True, allow_unused=True))
    latent: Tensor | None = None
    tokens: dict[str, Tensor] = {}
    reads = len(passage.reads)
    queries = sum(call.output.shape[1] for call in passage.calls if kind_of(call) == "answer")
    for call, gradient in zip(reversed(passage.calls), reversed(gradients), strict=True):
        weighed = Weighed(call)
        before = None if gradient is None else _before_the_output_map(gradient, weighed)
        if weighed.kind == "answer":
            asked = weighed.q.shape[-2]
            start = torch.eye(asked, device=weighed.q.device) if each_query else torch.full((1, asked), 1 / queries, device=weighed.q.device)
            given = handed_on(start.expand(len(weighed.q), -1, -1), weighed, way, before)
            latent = given if latent is None else torch.cat([given, latent], 1) if each_query else given + latent
            continue
        if latent is None:  # without a decoder the answer is the mean of the latents
            n = weighed.q.shape[-2]
            latent = weighed.q.new_full((len(weighed.q), 1, n), 1 / n).float()
        given = handed_on(latent, weighed, way, before)
        kept, taken = (1.0, 1.0) if way.kept is None else (way.kept, 1 - way.kept)
        if weighed.kind == "self":
            latent = kept * latent + taken * given
            continue
        reads -= 1
        # Before the first read the latents are the same for all rows: nothing of them is kept that a row could have put there.
        share = taken if reads or way.kept is None else 1.0
        for name, part in zip(weighed.sizes, given.split(list(weighed.sizes.values()), -1), strict=True):
            tokens[name] = tokens[name] + share * part if name in tokens else share * part
        latent = kept * latent
    return tokens


def _before_the_output_map(gradient: Float[Tensor, "b n d"], weighed: Weighed) -> Float[Tensor, "b h n w"]:
    """The gradient by what was read, from that by the layer's output."""
    return torch.einsum("bnd,hwd->bhnw", gradient.float(), weighed.output_map)
