"""Masked bytes on the published language model (Perceiver IO, section 4.1).

Letters: b rows, l places of the model, t places of the batch, v ids.
"""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.tasks.task import Batch, Task, objects
from perceiver.tokenizer import PAD


class MaskedLanguage(Task):
    """Trains a model to name the bytes behind a mask; the loss is the mean over all masked bytes of a batch.

    A batch holds the model's inputs, and `text_target` (b, t): the ids that are asked for, and 0 (PAD) where nothing is asked. It is
    what `perceiver.data.TextFiles` gives.

    Args:
        model: from a batch to scores of every id at every place; `perceiver.models.masked_bytes.MaskedBytes`.
        training: how; see `perceiver.tasks.Task`.
    """

    def __init__(self, model: nn.Module, **training: Any) -> None:
        super().__init__(model, **training)
        self.save_hyperparameters(ignore=objects())

    def forward(self, batch: Batch) -> Float[Tensor, "b l v"]:
        """Scores of every id at every place."""
        return self.model(batch)

    def asked(self, batch: Batch) -> tuple[Float[Tensor, "n v"], Int[Tensor, " n"]]:
        """Scores and ids of the masked bytes alone.

        Raises:
            ValueError: when the texts have more places than the model.
        """
        scores, target = self(batch), batch["text_target"]
        if target.shape[1] > scores.shape[1]:
            raise ValueError(f"texts of {target.shape[1]} places for a model of {scores.shape[1]}: cut them, or resize the model")
        if "text_target_present" in batch:
            scores = scores[batch["text_target_present"]]
        places = target != PAD
        return scores[:, : target.shape[1]][places].float(), target[places]

    def train_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The mean over the masked bytes, in nats; zero when there are none."""
        scores, target = self.asked(batch)
        return F.cross_entropy(scores, target, reduction="sum") / max(len(target), 1)

    def count(self, batch: Batch) -> Tensor:
        """Masked bytes."""
        return (batch["text_target"] != PAD).sum()

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Logs loss in nats, and share of right bytes."""
        scores, target = self.asked(batch)
        if len(target):
            found = {"loss": F.cross_entropy(scores, target), "accuracy": (scores.argmax(-1) == target).float().mean()}
            self.log_dict({f"{stage}/{name}": value for name, value in found.items()}, batch_size=len(target), sync_dist=True)
