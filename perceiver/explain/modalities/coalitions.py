"""Coalitions: what a model answers with each set of the modalities and no other, asked once and shared by all that measures their worth.

Letters: n rows, k classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perceiver.adapters.presence import removable
from perceiver.explain.examples import Examples, answers
from perceiver.explain.measure import Measure, Price, not_applicable
from perceiver.explain.right import right, unlabelled
from perceiver.explain.subject import Subject

LIMIT = 6  # modalities; each more doubles the price, and 7 would be 128 passes

Coalition = frozenset[str]
Score = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Coalitions:
    """Answers to one dataset's rows, by the set of modalities that they are made of.

    Attributes:
        dataset: their name.
        players: modalities that can be taken away, in the model's order; some row has each.
        kept: those that cannot, since their own content is asked; they are in every set.
        log_probabilities: by set of players. A row answers with those of the set that it has. Only the set of all is there if there is an
            obstacle, and none without labels.
        target: the right class of each row.
        present: which rows have each player.
        obstacle: why only the whole was asked; empty when every set was.
        price: of asking.
    """

    dataset: str
    players: tuple[str, ...]
    kept: tuple[str, ...]
    log_probabilities: Mapping[Coalition, Float[Tensor, "n k"]]
    target: Int[Tensor, " n"]
    present: Mapping[str, Bool[Tensor, " n"]]
    obstacle: str = ""
    price: Price = Price()

    def __len__(self) -> int:
        return len(self.target)

    @property
    def everyone(self) -> Coalition:
        """The set of all players."""
        return frozenset(self.players)

    @property
    def full(self) -> Float[Tensor, "n k"]:
        """Answers with everything that a row has."""
        return self.log_probabilities[self.everyone]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.full.shape[1]

    def values(self, score: Score = right) -> dict[Coalition, Float[Tensor, " n"]]:
        """The score of each row, by set.

        Args:
            score: from answers and right classes to one number a row, as in `perceiver.explain.right`.
        """
        return {some: score(found, self.target) for some, found in self.log_probabilities.items()}

    def of(self, *names: str) -> dict[str, str]:
        """What a measure is of: the dataset, and modalities if there are any."""
        return {"dataset": self.dataset} | ({"modality": "+".join(names)} if names else {})

    def without_measures(self, *measures: str) -> list[Measure]:
        """One measure a name that says what the obstacle is."""
        return [not_applicable(name, self.obstacle, n=len(self), of=self.of()) for name in measures]

    def kept_measures(self, measure: str) -> list[Measure]:
        """One measure for each modality that cannot be taken away."""
        return [
            not_applicable(measure, f"what is asked is the content of {name} itself, so it cannot be taken away", n=len(self), of=self.of(name))
            for name in self.kept
        ]


def coalitions(subject: Subject, examples: Examples) -> Coalitions:
    """Asks the model once for each set of the modalities that some row has, the empty one included.

    A row that lacks a modality answers a set with it as it does without it, and is asked once. More than 6 modalities are not asked set by set.

    Args:
        subject: the model, at rest.
        examples: rows of one dataset.
    """
    if len(examples):
        subject.learn_classes(next(iter(examples.batches(subject.device)))[0])
    if reason := unlabelled(examples, subject.class_count(examples.dataset)):
        return Coalitions(examples.dataset, (), (), {}, torch.zeros(0, dtype=torch.long), {}, reason)
    present = {name: examples.has(name) for name in subject.modalities}
    names = tuple(name for name, has in present.items() if has.any())
    entries = {key: value for row in examples.rows for key, value in row.items()}
    players = tuple(removable(entries, names))
    kept = tuple(name for name in names if name not in players and len(names) > 1)
    obstacle = _obstacle(examples.dataset, names, players)
    with subject.priced(len(examples)) as price:
        if obstacle:
            found = {frozenset(players): answers(subject, examples)}
        else:
            found = _asked(subject, examples, players, kept)
        mine = {name: present[name] for name in players}
        return Coalitions(examples.dataset, players, kept, found, examples.target, mine, obstacle, price())


def _obstacle(dataset: str, names: tuple[str, ...], players: tuple[str, ...]) -> str:
    if len(names) < 2:
        return f"rows of {dataset} have one modality that the model reads, {''.join(names)}: there is nothing to share its worth with"
    if not players:
        return f"{dataset} asks for the content of {' and '.join(names)}, so none of them can be taken away"
    if len(players) > LIMIT:
        return f"{len(players)} modalities make {2 ** len(players)} sets, and every set is asked only up to {LIMIT} modalities"
    return ""


def _asked(subject: Subject, examples: Examples, players: tuple[str, ...], kept: tuple[str, ...]) -> dict[Coalition, Tensor]:
    """Small sets first, so that a row which lacks a player of a set has its answer already."""
    found: dict[Coalition, Tensor] = {}
    has = {name: examples.has(name) for name in players}
    for some in (frozenset(names) for size in range(len(players) + 1) for names in combinations(players, size)):
        mine = torch.stack([has[name] for name in some]).all(0) if some else torch.ones(len(examples), dtype=torch.bool)
        result = torch.zeros(len(examples), subject.class_count(examples.dataset))
        for name in some:
            result[~has[name]] = found[some - {name}][~has[name]]
        if mine.any():
            result[mine] = answers(subject, examples.some(mine.nonzero().flatten().tolist()).only(some | {*kept}, subject.modalities))
        found[some] = result
    return found
