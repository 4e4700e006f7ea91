"""Survey: the statistics of every attention layer over many rows, with what belongs to a row kept apart, so that intervals can be had.

Letters: n rows, h heads, q queries (latents, or output queries), m keys of a segment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from perceiver.attention import Attention
from perceiver.explain.attention.passage import Weighed, following, kind_of, label, numbered
from perceiver.explain.attention.statistics import MOST, Statistics, coverage, statistics
from perceiver.explain.examples import Examples
from perceiver.explain.subject import Subject

GROUP = 20  # rows that are compared with one another for what attention depends on


@dataclass
class LayerSurvey:
    """Of one call of a layer, over all rows.

    Attributes:
        layer: its name for people; a second call of the same layer has a number behind it.
        module: its name in the model.
        kind: read, self or answer.
        attention: the layer itself.
        parts: what each batch gave; read by the properties.
    """

    layer: str
    module: str
    kind: str
    attention: Attention
    parts: list[Statistics] = field(default_factory=list)

    def _rows(self, of: Callable[[Statistics], Tensor]) -> Tensor:
        return torch.cat([of(part) for part in self.parts])

    @property
    def sharpness(self) -> Float[Tensor, "n h"]:
        """Normalised entropy, mean over queries."""
        return self._rows(lambda part: part.sharpness.nanmean(-1))

    @property
    def effective(self) -> Float[Tensor, " n"]:
        """Keys that a query attends to, mean over heads and queries."""
        return self._rows(lambda part: part.effective.mean((1, 2)))

    @property
    def coverage(self) -> Float[Tensor, " n"]:
        """Share of the keys that the queries together look at."""
        return self._rows(coverage)

    @property
    def query_diversity(self) -> Float[Tensor, " n"]:
        """How far queries look at different places."""
        return self._rows(lambda part: part.query_diversity.mean(1))

    @property
    def head_diversity(self) -> Float[Tensor, " n"] | None:
        """How far heads do; None with one head."""
        if self.parts[0].head_diversity is None:
            return None
        return self._rows(lambda part: torch.as_tensor(part.head_diversity).mean(1))

    @property
    def largest_logit(self) -> Float[Tensor, " n"]:
        """The greatest logit of each row."""
        return self._rows(lambda part: part.largest_logit.amax(1))

    @property
    def dependence(self) -> Float[Tensor, "n 2"]:
        """Input dependence, and as much of it as weights would have that depend on nothing of a row but what it lacks; each row's share in its
        group, mean over heads and queries. Empty where no group has two rows."""
        pairs = [(part.input_dependence, part.by_presence) for part in self.parts]
        found = [torch.stack([own.mean((1, 2)), fixed.mean((1, 2))], 1) for own, fixed in pairs if own is not None and fixed is not None]
        return torch.cat(found) if found else torch.zeros(0, 2)

    @property
    def segments(self) -> list[str]:
        """What is read."""
        return list(dict.fromkeys(name for part in self.parts for name in part.mass))

    def mass(self, segment: str) -> Float[Tensor, "n h q"]:
        """The share of each query's attention that a segment gets; zero in rows without it."""
        return self._rows(lambda part: part.mass[segment] if segment in part.mass else torch.zeros_like(next(iter(part.mass.values()))))

    def share(self, segment: str) -> Float[Tensor, " n"]:
        """The share of a row's keys that are the segment's: its mass, if all were attended alike."""
        return self._rows(lambda part: _share(part, segment))


def _share(part: Statistics, segment: str) -> Float[Tensor, " n"]:
    valid = dict(zip(part.sizes, part.valid.split(list(part.sizes.values()), -1), strict=True))
    keys = valid[segment].sum(-1) if segment in valid else torch.zeros(len(part.valid), device=part.valid.device)
    return keys / part.valid.sum(-1).clamp_min(1)


def survey(subject: Subject, examples: Examples, twin: nn.Module | None = None) -> list[LayerSurvey]:
    """The statistics of each attention call of a model, in their order, over all rows.

    Args:
        subject: the model, and how it is asked.
        examples: rows of one dataset.
        twin: another model of the same kind in its place, such as one that was not trained.
    """
    found: list[LayerSurvey] = []
    model, ask = (subject.model, subject.scores) if twin is None else (twin, subject.asked_of(twin))
    for batch, count in replace(examples, batch_size=GROUP).batches(subject.device):
        with following(model) as passage, torch.no_grad():
            ask(batch)
        subject.charge(0 if twin is None else count)
        calls = passage().calls
        if not found:
            names = numbered([label(call.layer) for call in calls])
            found = [LayerSurvey(name, call.layer, kind_of(call), call.attention) for name, call in zip(names, calls, strict=True)]
        for mine, call in zip(found, calls, strict=True):
            mine.parts.append(statistics(Weighed(call, MOST), count))
    return found
