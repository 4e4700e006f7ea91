"""Image adapters: a picture becomes one token a patch, or one a pixel.

Letters: b rows, c colour channels, y x rows and columns of pixels, p patch side, m patches.
"""

from collections.abc import Sequence

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from perceiver.adapters.adapter import Adapter, check_mask
from perceiver.positions import FourierPositions
from perceiver.tokens import Tokens


class ImagePatches(Adapter):
    """Standardised pixels of square patches, with Fourier features of the patch's row and column.

    Args:
        channels: colour channels.
        size: rows and columns of pixels.
        patch: side of a patch, in pixels; it divides both.
        num_bands: Fourier bands an axis.
        mean: of the pixels in [0, 1], one number, or one a channel.
        std: likewise.

    Raises:
        ValueError: when the patch does not divide the size, or a standard deviation is not positive.
    """

    def __init__(
        self,
        channels: int,
        size: Sequence[int],
        *,
        patch: int = 1,
        num_bands: int = 16,
        mean: Sequence[float] | float = 0.5,
        std: Sequence[float] | float = 0.5,
    ) -> None:
        super().__init__()
        rows, columns = size
        if patch < 1 or rows % patch or columns % patch:
            raise ValueError(f"patches of {patch} x {patch} pixels do not tile a picture of {rows} x {columns}: choose a divisor of both")
        self.channels = channels
        self.size = (rows, columns)
        self.patch = patch
        self.positions = FourierPositions((rows // patch, columns // patch), num_bands)
        self.feature_dim = channels * patch * patch
        self.position_dim = self.positions.width
        for name, values in (("mean", mean), ("std", std)):
            by_channel = torch.as_tensor(values, dtype=torch.float32).expand(channels).clone()
            self.register_buffer(name, by_channel[:, None, None], persistent=False)
        if not (self.get_buffer("std") > 0).all():
            raise ValueError(f"std={std}: a standard deviation must be positive")

    def forward(self, payload: Float[Tensor, "b c y x"] | UInt8[Tensor, "b c y x"], mask: Bool[Tensor, "b y x"] | None = None) -> Tokens:
        """Tokens of pictures in [0, 1], or of bytes 0 to 255; a patch may be attended if any of its pixels is valid.

        Raises:
            ValueError: when the pictures have another size, other channels, or are neither floats nor bytes.
        """
        wanted = (self.channels, *self.size)
        if payload.ndim != 4 or tuple(payload.shape[1:]) != wanted:
            raise ValueError(
                f"expected pictures of (channels, rows, columns) = {wanted}, got {tuple(payload.shape[1:])}: resize them, or change the adapter"
            )
        if payload.dtype == torch.uint8:
            payload = payload / 255
        elif not payload.is_floating_point():
            raise ValueError(f"expected floats in [0, 1] or uint8, got {payload.dtype}: convert the pictures")
        check_mask(mask, len(payload), *self.size)
        pixels = (payload - self.get_buffer("mean")) / self.get_buffer("std")
        if mask is not None:
            pixels = pixels.masked_fill(~mask[:, None], 0)
            mask = reduce(mask, "b (y p) (x q) -> b (y x)", "max", p=self.patch, q=self.patch)
        features = rearrange(pixels, "b c (y p) (x q) -> b (y x) (c p q)", p=self.patch, q=self.patch)
        grid = self.positions.shape
        return Tokens(features, grid, positions=self.positions(grid), mask=mask)

    def largest(self, rows: int) -> Float[Tensor, "b c y x"]:
        """A picture of the one size that there is, all zeros."""
        return torch.zeros(rows, self.channels, *self.size)


class ImagePixels(ImagePatches):
    """One token a pixel: `ImagePatches` with patches of one pixel.

    Args:
        channels: colour channels.
        size: rows and columns of pixels.
        num_bands: Fourier bands an axis.
        mean: of the pixels in [0, 1], one number, or one a channel.
        std: likewise.
    """

    def __init__(
        self,
        channels: int,
        size: Sequence[int],
        *,
        num_bands: int = 64,
        mean: Sequence[float] | float = 0.5,
        std: Sequence[float] | float = 0.5,
    ) -> None:
        super().__init__(channels, size, patch=1, num_bands=num_bands, mean=mean, std=std)
