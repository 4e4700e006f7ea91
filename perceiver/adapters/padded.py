"""Adapters of the published autoencoder, whose tokens are filled up to one width with a learned vector (Perceiver IO, appendix G).

Letters: b rows, t frames, c colours, y x rows and columns, s samples, k classes, m tokens, w common width.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from perceiver.adapters.adapter import Adapter
from perceiver.initialization import small_array
from perceiver.positions import FourierPositions
from perceiver.tokens import Tokens


class VideoPatches(Adapter):
    """Pixels of square patches of each frame, beside Fourier features of time, row and column.

    Args:
        size: frames, and rows and columns of patches.
        channels: colours.
        patch: side of a patch, in pixels.
        num_bands: Fourier bands an axis.
    """

    def __init__(self, size: Sequence[int], *, channels: int = 3, patch: int = 4, num_bands: int = 32) -> None:
        super().__init__()
        self.channels = channels
        self.patch = patch
        self.positions = FourierPositions(size, num_bands)
        self.feature_dim = channels * patch * patch
        self.position_dim = self.positions.width

    def forward(self, payload: Float[Tensor, "b t c y x"], mask: Bool[Tensor, "b t"] | None = None) -> Tokens:
        """Tokens of videos with pixels in [0, 1], of any length and size; a mask says which frames there are.

        Raises:
            ValueError: when they have other axes or colours, or patches do not tile them.
        """
        if payload.ndim != 5 or payload.shape[2] != self.channels or payload.shape[3] % self.patch or payload.shape[4] % self.patch:
            raise ValueError(
                f"expected videos of (rows, frames, {self.channels}, y, x) with y and x multiples of {self.patch}, got {tuple(payload.shape)}"
            )
        if mask is not None:
            payload = payload.masked_fill(~mask[:, :, None, None, None], 0)
        features = rearrange(payload, "b t c (y p) (x q) -> b t y x (p q c)", p=self.patch, q=self.patch)
        grid = tuple(features.shape[1:4])
        tokens = None if mask is None else mask[:, :, None].expand(-1, -1, grid[1] * grid[2]).flatten(1)
        return Tokens(features.flatten(1, 3), grid, positions=self.positions(grid), mask=tokens)

    def largest(self, rows: int) -> Float[Tensor, "b t c y x"]:
        """A video of the size that the positions were made for, all zeros."""
        frames, y, x = self.positions.shape
        return torch.zeros(rows, frames, self.channels, self.patch * y, self.patch * x)


class SoundPatches(Adapter):
    """Stretches of a waveform, beside Fourier features of time.

    Args:
        num_samples: of the sounds that the model is for; sets the highest band, and any other number may come.
        patch: samples of a token.
        num_bands: Fourier bands.
        std: samples are divided by it. Where they are as large as the features of time, attention cannot tell one moment from another.

    Raises:
        ValueError: when `std` is not positive.
    """

    def __init__(self, num_samples: int, *, patch: int = 16, num_bands: int = 192, std: float = 1.0) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(f"std={std}: give a positive deviation, 1 for samples as they are")
        self.patch = patch
        self.std = std
        self.positions = FourierPositions((num_samples // patch,), num_bands, max_resolution=(num_samples,))
        self.feature_dim = patch
        self.position_dim = self.positions.width

    def forward(self, payload: Float[Tensor, "b s 1"], mask: Bool[Tensor, "b s"] | None = None) -> Tokens:
        """Tokens of waveforms in [-1, 1]; one may be attended if any of its samples is valid.

        Raises:
            ValueError: when they have other axes, or patches do not tile them.
        """
        if payload.ndim != 3 or payload.shape[2] != 1 or payload.shape[1] % self.patch:
            raise ValueError(
                f"expected sounds of (rows, samples, 1) with a multiple of {self.patch} samples, got {tuple(payload.shape)}: cut or pad them"
            )
        if mask is not None:
            payload = payload.masked_fill(~mask[..., None], 0)
            mask = mask.unflatten(1, (-1, self.patch)).any(-1)
        features = (payload[..., 0] / self.std).unflatten(1, (-1, self.patch))
        return Tokens(features, (features.shape[1],), positions=self.positions((features.shape[1],)), mask=mask)

    def largest(self, rows: int) -> Float[Tensor, "b s 1"]:
        """A sound of the length that the positions were made for, all zeros."""
        return torch.zeros(rows, self.patch * self.positions.shape[0], 1)


class OneToken(Adapter):
    """A vector as one token without a place: a class, one-hot, or as probabilities.

    Args:
        dim: its width.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.feature_dim = dim
        self.position_dim = 0

    def forward(self, payload: Float[Tensor, "b k"], mask: Bool[Tensor, "b 1"] | None = None) -> Tokens:
        """One token a row.

        Raises:
            ValueError: when the vectors have another width.
        """
        if payload.ndim != 2 or payload.shape[1] != self.feature_dim:
            raise ValueError(f"expected one vector of width {self.feature_dim} a row, got {tuple(payload.shape)}")
        return Tokens(payload[:, None], (1,), mask=mask)

    def largest(self, rows: int) -> Float[Tensor, "b k"]:
        """A vector, all zeros."""
        return torch.zeros(rows, self.feature_dim)


class Padded(Adapter):
    """Another adapter's tokens, filled up to the common width with a learned vector that says which modality it is.

    Args:
        adapter: makes the tokens.
        width: the common width.
        hidden: share of the tokens that a learned vector replaces, in training and out of it: 1 hides a label that is to be guessed.

    Raises:
        ValueError: when the width leaves no room, or the share is not in [0, 1].
    """

    def __init__(self, adapter: Adapter, width: int, *, hidden: float = 0.0) -> None:
        super().__init__()
        rest = width - adapter.feature_dim - adapter.position_dim
        if rest < 1 or not 0 <= hidden <= 1:
            raise ValueError(f"width={width} and hidden={hidden}: give more than {width - rest} channels, and a share in [0, 1]")
        self.adapter = adapter
        self.hidden = hidden
        self.padding = small_array(1, rest)
        self.token = small_array(1, width)
        self.feature_dim = width
        self.position_dim = 0

    def forward(self, payload: Tensor, mask: Bool[Tensor, "b ..."] | None = None) -> Tokens:
        """Tokens of the common width."""
        tokens = replace(self.adapter(payload, mask), constant=self.padding[0])
        if not self.hidden:
            return tokens
        tokens = tokens.dense()
        drawn = torch.rand(tokens.features.shape[:2], device=tokens.features.device) < self.hidden
        return replace(tokens, features=torch.where(drawn[..., None], self.token, tokens.features))

    def largest(self, rows: int) -> Tensor:
        """That of the adapter whose tokens are filled up."""
        return self.adapter.largest(rows)
