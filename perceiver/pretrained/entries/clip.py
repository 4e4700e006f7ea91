"""Clips for the published autoencoder: 16 square frames of 224 pixels, their sound at 48 kHz, and a label.

Letters: b clips, t frames, y x rows and columns, s samples, k classes.
"""

from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from perceiver.models.autoencoder import VideoAutoencoder


def clip_entries(
    model: VideoAutoencoder, video: UInt8[Tensor, "b t 3 y x"], sound: Float[Tensor, "b s"], label: Int[Tensor, " b"] | None = None
) -> dict[str, Tensor]:
    """`image` (b, t, 3, y, x) in [0, 1], `audio` (b, s, 1) in [-1, 1] and `label` (b, k) for the model.

    Of each frame the middle square is taken and stretched to the size that the model reads. Without labels, none is told: the model, from
    which labels are hidden all the same, names them.

    Args:
        model: says how many frames, rows, samples and classes there are.
        video: frames in bytes, 25 a second for the published weights.
        sound: of the same time, mono, 48 kHz for the published weights.
        label: class numbers.

    Raises:
        ValueError: when there are other numbers of frames or samples than the model reads, or a label is out of range.
    """
    queries: Any = model.queries
    heads: Any = model.heads
    (frames, rows, columns), classes = queries["image"].shape, heads["label"].out_features
    samples = queries["audio"].num_places * heads["audio"].out_features
    if video.shape[1] != frames or sound.shape[1] != samples:
        raise ValueError(
            f"a clip of {video.shape[1]} frames and {sound.shape[1]} samples: this model reads {frames} frames, and {samples} samples with them"
        )
    if label is not None and bool(((label < 0) | (label >= classes)).any()):
        raise ValueError(f"label {int(label[(label < 0) | (label >= classes)][0])} is out of range 0 to {classes - 1}")
    from torchvision.transforms.v2 import functional as tv

    side = min(video.shape[-2:])
    square = tv.resize(tv.center_crop(video, [side, side]), [rows, columns], antialias=True)
    told = torch.zeros(len(video), classes)
    if label is not None:
        told[torch.arange(len(label)), label] = 1
    return {"image": square / 255, "audio": sound[..., None], "label": told}
