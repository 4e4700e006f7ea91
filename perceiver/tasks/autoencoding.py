"""Autoencoding of video, sound and label through one latent array (Perceiver IO, section 4.4).

Letters: b clips, t frames, c colours, y x rows and columns, s samples, k classes, p places.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters.presence import row_count
from perceiver.tasks.task import Batch, Task, objects

WEIGHTS = {"image": 0.03, "audio": 1.0, "label": 1e-4}
RANGE = {"image": 1.0, "audio": 2.0}  # from the least value to the greatest


class Autoencoding(Task):
    """Trains a model to write video, sound and label again after they went through the latents.

    A batch holds `image` (b, t, c, y, x) in [0, 1], `audio` (b, s, 1) in [-1, 1] and, where the model reads one, `label` (b, k), one-hot, or zeros
    where there is none. A label that the model's adapter hides from it (`Padded(hidden=1.0)`) makes it a classifier.

    In training some places are drawn in each step, the same for all clips, and only they are written; in validation and test all are, in
    chunks.

    Args:
        model: `perceiver.models.autoencoder.VideoAutoencoder`.
        places: how many are drawn by modality, of pixels and of patches of sound; of a modality that is not named, all are written.
        weights: of the losses by modality: of the error for pixels and samples, of the cross-entropy for the label.
        errors: of pixels and samples, by modality: from what is written and what is true to one number, mean absolute error where there is none.
        training: how; see `perceiver.tasks.Task`.

    Raises:
        ValueError: when the model does not write a modality that is named, or has fewer places.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        places: Mapping[str, int] | None = None,
        weights: Mapping[str, float] | None = None,
        errors: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        **training: Any,
    ) -> None:
        super().__init__(model, **training)
        self.save_hyperparameters(ignore=objects("errors"))
        self.places = dict(places or {})
        self._places: dict[str, Tensor] | None = None  # of the step
        self._parts: list[tuple[int, dict[str, Tensor]]] = []  # rows and losses of what the step has gone through so far
        self.weights = WEIGHTS | dict(weights or {})
        self.errors = dict.fromkeys(RANGE, F.l1_loss) | dict(errors or {})
        for option, names, known in (("weights", self.weights, WEIGHTS), ("errors", self.errors, RANGE)):
            if unknown := names.keys() - known:
                raise ValueError(f"{option} of {', '.join(sorted(unknown))}: this task has them of {', '.join(known)}")
        for name, number in self.places.items():
            queries = self.model.queries
            if name not in queries or not 1 <= number <= queries[name].num_places:
                written = ", ".join(f"{key} with {query.num_places}" for key, query in queries.items())
                raise ValueError(f"places: {number} of {name!r}, and the model writes {written}")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Video, sound and label as the model writes them, in the form in which they came."""
        return self.model(batch)

    def draw(self) -> dict[str, Tensor]:
        """Places of this step, by modality."""
        return {name: torch.randperm(self.model.queries[name].num_places, device=self.device)[:number] for name, number in self.places.items()}

    def losses(self, batch: Batch, places: Mapping[str, Tensor]) -> dict[str, Float[Tensor, ""]]:
        """The loss of each modality that the batch has, at the places that are asked for."""
        return self.compare(self.model(batch, places), batch, places)

    def compare(self, written: Mapping[str, Tensor], batch: Batch, places: Mapping[str, Tensor]) -> dict[str, Float[Tensor, ""]]:
        """`losses` of what was written."""
        found: dict[str, Tensor] = {}
        for name, error in self.errors.items():
            if name in batch:
                found[name] = error(written[name], self.target(batch, name, places))
        if "label" in batch and bool((told := batch["label"].sum(1) > 0).any()):
            found["label"] = F.cross_entropy(written["label"][told], batch["label"][told].argmax(1))
        return found

    def total(self, losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Their weighted sum."""
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()

    def target(self, batch: Batch, name: str, places: Mapping[str, Tensor]) -> Tensor:
        """What ought to be written at the places: pixels (b, p, c), or the samples of some patches one after another (b, s)."""
        if name not in places:
            return batch[name]
        if name == "image":
            return rearrange(batch[name], "b t c y x -> b (t y x) c")[:, places[name]]
        patches = batch[name][..., 0].unflatten(1, (self.model.queries[name].num_places, -1))
        return patches[:, places[name]].flatten(1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch, at places that are the same for all of its rows; the loss of each modality is logged, too."""
        self._places, self._parts = self.draw(), []
        loss = super().training_step(batch, batch_idx)
        self.log_dict({f"train/loss/{name}": value for name, value in means(self._parts, row_count(batch)).items()}, batch_size=1)
        return loss

    def train_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """The weighted sum of the losses at the places of the step. In micro-batches, rows with and without a label count alike."""
        losses = self.losses(batch, self._places or self.draw())
        self._parts.append((row_count(batch), {name: loss.detach() for name, loss in losses.items()}))
        return self.total(losses)

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Logs loss, signal-to-noise ratios and accuracy."""
        written = self.model(batch)
        found = {f"psnr/{name}": psnr(written[name], batch[name], RANGE[name]).mean() for name in ("image", "audio") if name in batch}
        if "audio" in batch:
            found["snr/audio"] = snr(written["audio"], batch["audio"])
        if "label" in batch and bool((told := batch["label"].sum(1) > 0).any()):
            found["accuracy"] = (written["label"].argmax(1) == batch["label"].argmax(1))[told].float().mean()
        found["loss"] = self.total(self.compare(written, batch, {}))
        size = len(next(iter(written.values())))
        self.log_dict({f"{stage}/{name}": value for name, value in found.items()}, batch_size=size, sync_dist=True)


def means(parts: Sequence[tuple[int, Mapping[str, Tensor]]], rows: int) -> dict[str, Tensor]:
    """Means over all rows of a batch, from those of the last parts that make up the batch: earlier ones were given up when memory ran out."""
    sums: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()
    left = rows
    for size, found in reversed(parts):
        if left <= 0:
            break
        left -= size
        for name, value in found.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + size * value
            counts[name] += size
    return {name: value / counts[name] for name, value in sums.items()}


def psnr(written: Float[Tensor, "b ..."], true: Float[Tensor, "b ..."], extent: float) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each row, dB; `extent` is the distance from the least value to the greatest."""
    error = (written - true).flatten(1).square().mean(1).clamp_min(1e-12)
    return 10 * torch.log10(extent**2 / error)


def snr(written: Float[Tensor, "b ..."], true: Float[Tensor, "b ..."]) -> Float[Tensor, ""]:
    """Signal-to-noise ratio of all rows together, dB: the energy of what is true over that of the error; 0 is what silence gets."""
    energy, error = true.square().sum(), (written - true).square().sum()
    return 10 * torch.log10(energy.clamp_min(1e-12) / error.clamp_min(1e-12))
