"""Optical flow (Perceiver IO, section 4.3).

Letters: b pairs of frames, y x rows and columns.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from perceiver.pretrained.entries.frames import PIXELS, frame_entries
from perceiver.tasks.task import Batch, Task, objects


class FlowEstimation(Task):
    """Trains a model to say where each pixel goes; loss and figure are the end-point error, the mean distance in pixels.

    A batch holds `frames`, bytes (b, 2, 3, y, x) or what `perceiver.pretrained.entries.frame_entries` makes of them; `flow` (b, y, x, 2), the
    true movement to the right and down in pixels; and perhaps `flow_valid` (b, y, x, bool): where it is known.

    Args:
        model: gives the movement in units of 20 pixels; `perceiver.models.optical_flow.OpticalFlow`.
        training: how; see `perceiver.tasks.Task`.
    """

    monitor = ("val/end_point_error", "min")

    def __init__(self, model: nn.Module, **training: Any) -> None:
        super().__init__(model, **training)
        self.save_hyperparameters(ignore=objects())

    def forward(self, batch: Batch) -> Float[Tensor, "b y x 2"]:
        """The movement of each pixel, in pixels."""
        if batch["frames"].dtype == torch.uint8:
            batch = batch | frame_entries(batch["frames"][:, 0], batch["frames"][:, 1])
        return self.model(batch) * PIXELS

    def end_point_error(self, batch: Batch) -> Float[Tensor, ""]:
        """The mean distance between the place that is said and the true one, over all pixels whose movement is known; zero when none is.

        Raises:
            ValueError: when the flow has another shape than the model gives.
        """
        found, true = self(batch), batch["flow"]
        if found.shape != true.shape:
            raise ValueError(f"flow of {tuple(true.shape)} for frames whose flow has {tuple(found.shape)}: give (pairs, rows, columns, 2)")
        return mean_length(found - true, batch.get("flow_valid"))

    def train_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The error of one batch."""
        return self.end_point_error(batch)

    def count(self, batch: Batch) -> Tensor:
        """Pixels whose movement is known."""
        return batch["flow_valid"].sum() if "flow_valid" in batch else super().count(batch)

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Logs the error of one batch, and beside it the error of whoever says that nothing moves."""
        found = {"end_point_error": self.end_point_error(batch), "error_of_no_movement": mean_length(batch["flow"], batch.get("flow_valid"))}
        self.log_dict({f"{stage}/{name}": value for name, value in found.items()}, batch_size=len(batch["flow"]), sync_dist=True)


def mean_length(vectors: Float[Tensor, "b y x 2"], valid: Bool[Tensor, "b y x"] | None) -> Float[Tensor, ""]:
    """Mean length of vectors, in pixels, where they are valid; zero when none is."""
    if valid is None:
        return vectors.norm(dim=-1).mean()
    return vectors.masked_fill(~valid[..., None], 0).norm(dim=-1).sum() / valid.sum().clamp_min(1)
