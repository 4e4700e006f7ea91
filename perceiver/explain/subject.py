"""Subject: the model that a report is about, whatever kind of model it is, and what its answers mean.

Letters: b rows of a batch, k classes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from perceiver.adapters import Inputs
from perceiver.explain.measure import Price

Batch = Mapping[str, Tensor]
Scores = Callable[[Batch], Tensor]


class Subject:
    """A model in evaluation mode, which counts what it is asked.

    A task of `perceiver.tasks` knows its datasets and classes. Any other model with `inputs` (`perceiver.Inputs`) is asked for scores, (b, k) or
    (b, 1, k), before the softmax.

    Args:
        model: a task, or a model.
        scores: from a batch to scores before the softmax, (b, k), where the model itself gives something else.
        datasets: what the numbers in `dataset` mean.
        classes: names of the classes of each dataset, or of all alike; numbers where not given.

    Attributes:
        model: whose inputs and attention are looked at.
        datasets: their names.
        asks_plainly: whether the model is asked as it is, so that another one of its kind can be asked alike.

    Raises:
        ValueError: when the model has no `inputs` to take modalities from.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        scores: Scores | None = None,
        datasets: Sequence[str] | None = None,
        classes: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
    ) -> None:
        self.model: Any = model if isinstance(getattr(model, "inputs", None), Inputs) else getattr(model, "model", model)
        if not isinstance(getattr(self.model, "inputs", None), Inputs):
            raise ValueError(f"a report needs a model whose `inputs` are perceiver.Inputs, and {type(self.model).__name__} has none")
        self.datasets: tuple[str, ...] = tuple(datasets or getattr(model, "datasets", ("data",)))  # type: ignore[arg-type]
        self._scores: Scores = scores or getattr(model, "scores", model)  # type: ignore[assignment]
        self._classes = classes
        self.asks_plainly = scores is None
        self._counts: dict[str, int] | None = getattr(model, "class_counts", None)
        self._rows = 0

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all that the model reads."""
        return tuple(self.model.inputs.adapters)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def scores(self, batch: Batch) -> Float[Tensor, "b k"]:
        """The logarithm of the probability of each class, in float32; -inf beyond a dataset's own classes.

        Raises:
            ValueError: when the model gives anything but scores of classes.
        """
        found = self._scores(batch)
        if isinstance(found, Tensor) and found.ndim == 3 and found.shape[1] == 1:
            found = found[:, 0]
        if not isinstance(found, Tensor) or found.ndim != 2:
            what = f"a tensor of {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"{type(self.model).__name__} gives {what}, and a report needs scores of classes, (rows, classes): pass `scores`")
        self._rows += len(found)
        return found.float().log_softmax(-1)

    def asked_of(self, model: nn.Module) -> Callable[[Batch], Any]:
        """Asks another model of the same kind as this one is asked."""
        tasks = self.datasets if hasattr(self.model, "readouts") else None
        return (lambda batch: model(batch)) if tasks is None else (lambda batch: model(batch, tasks))

    def log_odds(self, batch: Batch, chosen: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """How far a class of each row is ahead of all others together, in nats. Unlike its probability it has a slope where the model is sure."""
        scores = self.scores(batch)
        others = scores.scatter(1, chosen[:, None], -torch.inf).logsumexp(1)
        return scores.gather(1, chosen[:, None])[:, 0] - others

    def class_count(self, dataset: str) -> int:
        """Number of classes of a dataset; 0 where its task is another."""
        return self.class_counts.get(dataset, 0)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of classes of each dataset; 0 where its task is another. Of a bare model it is known after the first answer (`learn_classes`)."""
        return self._counts or {}

    def pool(self, name: str) -> bool:
        """Lets rows of all datasets be asked together under a name, if they have their classes in common; whether they have.

        Among rows of one kind of question alone, the question is worth nothing: that of any other row would do as well.
        """
        counts = set(self.class_counts.values())
        if len(self.datasets) < 2 or len(counts) != 1 or not max(counts) or hasattr(self.model, "readouts"):
            return False
        self._counts = {**self.class_counts, name: max(counts)}
        return True

    def learn_classes(self, batch: Batch) -> None:
        """Asks a bare model how many classes there are."""
        if self._counts is None:
            with torch.no_grad():
                self._counts = dict.fromkeys(self.datasets, self.scores(batch).shape[1])

    def class_names(self, dataset: str) -> list[str]:
        """Names of the classes of a dataset."""
        given = self._classes.get(dataset) if isinstance(self._classes, Mapping) else self._classes
        return [str(name) for name in given or range(self.class_count(dataset))]

    def charge(self, rows: int) -> None:
        """Counts rows that were asked in another way than by `scores`."""
        self._rows += rows

    @contextmanager
    def priced(self, rows: int) -> Iterator[Callable[[], Price]]:
        """What is asked inside costs something: a function that tells how much so far.

        Args:
            rows: of which a pass consists.
        """
        asked, started = self._rows, time.perf_counter()
        yield lambda: Price(round((self._rows - asked) / max(rows, 1), 2), round(time.perf_counter() - started, 3))
