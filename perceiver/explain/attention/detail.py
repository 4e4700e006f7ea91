"""Detail: attention head by head, latent by latent and output query by output query, for those who want to draw their own pictures.

Letters: n rows, h heads, q latents or output queries.
"""

from collections.abc import Mapping
from typing import Any

import torch

from perceiver.explain.attention.combination import Surveys
from perceiver.explain.attention.flow import ROLLOUT, relevance
from perceiver.explain.attention.passage import following, kind_of
from perceiver.explain.examples import Examples
from perceiver.explain.subject import Subject

QUERIES = 64  # output queries that are followed one by one
ROWS = 20


def by_latent(found: Mapping[str, Surveys]) -> dict[str, Any]:
    """The mass of each segment for each head and latent, mean over rows: by dataset, read and segment, (h, q) as lists."""
    return {
        dataset: {one.layer: {segment: one.mass(segment).mean(0).tolist() for segment in one.segments} for one, _ in surveys.reads}
        for dataset, surveys in found.items()
    }


def by_query(subject: Subject, examples: Examples) -> dict[str, list[float]]:
    """The share of each modality in what each output query reads, followed through the latents (rollout), mean over rows; empty where that cannot be
    followed, or there are too many queries."""
    batch, count = next(examples.first(ROWS).batches(subject.device))
    with following(subject.model) as passage, torch.no_grad():
        subject.scores(batch)
    found = passage()
    asked = sum(call.output.shape[1] for call in found.calls if kind_of(call) == "answer")
    if found.reason or asked > QUERIES:
        return {}
    flows = relevance(found, ROLLOUT, each_query=True)
    return {name: part[:count].sum(-1).mean(0).tolist() for name, part in flows.items()}
