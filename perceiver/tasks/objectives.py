"""Objectives: what can be learned on a dataset of a mixture. Each brings queries and a head, and says how wrong their outputs are.

Letters: r rows of one task, o output queries, k outputs, l bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.initialization import linear
from perceiver.queries import InputQueries, LearnedQueries
from perceiver.tokenizer import PAD, VOCAB_SIZE


class Objective(ABC):
    """What is learned on one dataset."""

    @abstractmethod
    def readout(self, query_dim: int, token_dim: int) -> tuple[nn.Module, nn.Module]:
        """Queries of the width that the decoder takes, and the head behind them.

        Args:
            query_dim: width of an output query.
            token_dim: common width of the input tokens.
        """

    @abstractmethod
    def judge(self, outputs: Float[Tensor, "r o k"], batch: Mapping[str, Tensor], rows: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """The loss of each row, and the share of it that is answered right.

        Args:
            outputs: of this task's rows, in their order.
            batch: the whole batch.
            rows: which rows of it are of this task.

        Raises:
            ValueError: when a target is out of range.
        """

    def train_loss(self, outputs: Float[Tensor, "r o k"], batch: Mapping[str, Tensor], rows: Bool[Tensor, " b"]) -> Float[Tensor, " r"]:
        """What each row is trained on: the loss that `judge` gives, unless an objective says otherwise."""
        return self.judge(outputs, batch, rows)[0]


class ClassObjective(Objective):
    """One class a row: `target` in the batch.

    Args:
        num_classes: number of classes.
        label_smoothing: in training, share of the target that is spread over all classes.

    Raises:
        ValueError: when there are fewer than two classes.
    """

    def __init__(self, num_classes: int, *, label_smoothing: float = 0.0) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes}: classification needs at least 2")
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def readout(self, query_dim: int, token_dim: int) -> tuple[nn.Module, nn.Module]:
        """One learned query, and a linear map to the classes."""
        return LearnedQueries(1, query_dim), linear(query_dim, self.num_classes)

    def judge(self, outputs: Float[Tensor, "r 1 k"], batch: Mapping[str, Tensor], rows: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Cross-entropy, and whether the most likely class is right."""
        target = self._target(batch, rows)
        return F.cross_entropy(outputs[:, 0], target, reduction="none"), (outputs[:, 0].argmax(-1) == target).float()

    def train_loss(self, outputs: Float[Tensor, "r 1 k"], batch: Mapping[str, Tensor], rows: Bool[Tensor, " b"]) -> Float[Tensor, " r"]:
        """Cross-entropy with a smoothed target (Szegedy et al. 2016, section 7), where that is asked for."""
        if not self.label_smoothing:
            return super().train_loss(outputs, batch, rows)
        return F.cross_entropy(outputs[:, 0], self._target(batch, rows), reduction="none", label_smoothing=self.label_smoothing)

    def _target(self, batch: Mapping[str, Tensor], rows: Bool[Tensor, " b"]) -> Tensor:
        target = batch["target"][rows]
        if bool((wrong := (target < 0) | (target >= self.num_classes)).any()):
            raise ValueError(f"target {int(target[wrong][0])} of a row is out of range 0 to {self.num_classes - 1}: correct the data, or num_classes")
        return target


class MaskedBytesObjective(Objective):
    """The bytes behind a mask: `<modality>_target` in the batch holds their ids, and 0 where nothing is asked.

    Each byte of the input asks for itself (Perceiver IO, section 4.1, asks by place; a query made of the token knows its place, too).

    Args:
        modality: the text that was masked.
    """

    def __init__(self, modality: str = "text") -> None:
        self.modality = modality

    def readout(self, query_dim: int, token_dim: int) -> tuple[nn.Module, nn.Module]:
        """A query for each byte, and a linear map to the 262 ids."""
        return InputQueries(self.modality, token_dim, query_dim), linear(query_dim, VOCAB_SIZE)

    def judge(self, outputs: Float[Tensor, "r l k"], batch: Mapping[str, Tensor], rows: Bool[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy over a row's masked bytes, in nats, and the share of them that is right; zero for a row with none."""
        key = f"{self.modality}_target"
        present = batch[f"{key}_present"]
        target = batch[key][rows[present]]
        outputs = outputs[:, : target.shape[1]]  # texts of other tasks in the batch may be longer
        asked = target != PAD
        losses = F.cross_entropy(outputs.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
        number = asked.sum(1).clamp_min(1)
        right = (outputs.argmax(-1) == target) & asked
        return losses.masked_fill(~asked, 0).sum(1) / number, right.sum(1) / number


# By the name that a dataset gives: looked up, never imported. Put your own here, before the task is built.
OBJECTIVES: dict[str, Callable[..., Objective]] = {"classification": ClassObjective, "masked_bytes": MaskedBytesObjective}


def objective(name: str, settings: Mapping[str, Any]) -> Objective:
    """The objective of a dataset out of plain data: `task` names it, and the rest are its arguments.

    Raises:
        ValueError: when there is none of that name, or it has no such argument.
    """
    rest = {key: value for key, value in settings.items() if key != "task"}
    kind = settings.get("task")
    if kind not in OBJECTIVES:
        raise ValueError(f"dataset {name!r} asks for the task {kind!r}, and there are only {', '.join(OBJECTIVES)}: see perceiver.tasks.OBJECTIVES")
    try:
        return OBJECTIVES[kind](**rest)
    except TypeError as error:
        raise ValueError(f"dataset {name!r}: {kind} does not take {rest}: {error}") from error
