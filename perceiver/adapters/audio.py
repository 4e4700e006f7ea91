"""Audio adapter: a waveform becomes one token a stretch of samples.

Letters: b rows, c sound channels, s samples, p samples in a patch, t patches.
"""

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from perceiver.adapters.adapter import Adapter, check_mask
from perceiver.positions import FourierPositions
from perceiver.tokens import Tokens


def check_sound(payload: Tensor, channels: int, max_samples: int) -> None:
    """Refuses what is not a batch of waveforms that fit.

    Raises:
        ValueError: when the shape is not `b c s`, or there is no sample, or there are too many.
    """
    if payload.ndim != 3 or payload.shape[1] != channels or not payload.is_floating_point():
        raise ValueError(f"expected sounds as floats of shape (rows, {channels} channels, samples), got {payload.dtype} of {tuple(payload.shape)}")
    if not 0 < payload.shape[2] <= max_samples:
        raise ValueError(f"a sound has {payload.shape[2]} samples, and this adapter takes 1 to {max_samples}: crop it, or raise the adapter's limit")


def silence_behind(payload: Float[Tensor, "b c s"], mask: Bool[Tensor, "b s"] | None) -> tuple[Tensor, Bool[Tensor, "b s"]]:
    """Zeros where the mask says that there is no sound, and the mask (all True when there was none)."""
    if mask is None:
        return payload, torch.ones(len(payload), payload.shape[-1], dtype=torch.bool, device=payload.device)
    check_mask(mask, len(payload), payload.shape[-1])
    return payload.masked_fill(~mask[:, None], 0), mask


class AudioPatches(Adapter):
    """Raw samples, some in a row to a token, with Fourier features of time.

    Args:
        sample_rate: of the sound, Hz.
        max_seconds: the longest sound.
        patch: samples in a token.
        channels: sound channels.
        num_bands: Fourier bands of time.

    Raises:
        ValueError: when the rate, the time or the patch is not positive.
    """

    def __init__(self, sample_rate: int, max_seconds: float, *, patch: int = 16, channels: int = 1, num_bands: int = 64) -> None:
        super().__init__()
        if sample_rate <= 0 or max_seconds <= 0 or patch < 1:
            raise ValueError(f"sample_rate={sample_rate} Hz, max_seconds={max_seconds} and patch={patch} samples must all be positive")
        self.sample_rate = sample_rate
        self.max_samples = round(sample_rate * max_seconds)
        self.patch = patch
        self.channels = channels
        self.positions = FourierPositions((-(-self.max_samples // patch),), num_bands)
        self.feature_dim = patch * channels
        self.position_dim = self.positions.width

    def forward(self, payload: Float[Tensor, "b c s"], mask: Bool[Tensor, "b s"] | None = None) -> Tokens:
        """Tokens of waveforms in [-1, 1]; a patch may be attended if any of its samples is valid.

        Time counts from the start in samples, so a sound gives the same tokens however far its batch was padded.

        Raises:
            ValueError: when there is no sample, too many, or another number of channels.
        """
        check_sound(payload, self.channels, self.max_samples)
        payload, mask = silence_behind(payload, mask)
        short = -payload.shape[-1] % self.patch
        features = rearrange(F.pad(payload, (0, short)), "b c (t p) -> b t (p c)", p=self.patch)
        mask = reduce(F.pad(mask, (0, short)), "b (t p) -> b t", "max", p=self.patch)
        num_patches = features.shape[1]
        return Tokens(features, (num_patches,), positions=self.positions(self.positions.shape).first(num_patches), mask=mask)

    def largest(self, rows: int) -> Float[Tensor, "b c s"]:
        """A sound of the longest time, all zeros."""
        return torch.zeros(rows, self.channels, self.max_samples)
