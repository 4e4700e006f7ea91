"""Pictures through a stem, one token a place of what comes out: the inputs of the published image models (Perceiver IO, appendix A).

Letters: b rows, c channels, y x rows and columns of the picture, m tokens.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters.adapter import Adapter
from perceiver.description import Described
from perceiver.positions import FourierPositions, LearnedGrid
from perceiver.tokens import Tokens

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ConvStem(Described):
    """A convolution of 7 x 7 with stride 2, batch norm, and a maximum of 3 x 3 with stride 2: a quarter of the rows and columns.

    Args:
        channels: of the picture.
        dim: channels that come out.
        conv_pad: zeros before and after the rows, and the columns, of the picture.
        pool_pad: likewise, before the maximum.
    """

    shrinks = 4  # pixels of a side for one place of what comes out

    def __init__(self, channels: int = 3, dim: int = 64, *, conv_pad: Sequence[int] = (2, 3), pool_pad: Sequence[int] = (0, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, dim, 7, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.conv_pad = tuple(conv_pad) * 2
        self.pool_pad = tuple(pool_pad) * 2

    def forward(self, picture: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v w"]:
        """What comes out."""
        x = self.norm(self.conv(F.pad(picture, self.conv_pad))).relu()
        return F.max_pool2d(F.pad(x, self.pool_pad), 3, stride=2)  # nothing is below zero here, so zeros never win


class ImageMap(Adapter):
    """A picture of any size through a stem, one token a place of what comes out, beside its position.

    Args:
        stem: from a picture to a map of features; `nn.Identity()` leaves the pixels.
        channels: that the stem gives.
        positions: of the map.
        mean: of the pixels in [0, 1], one a channel, to standardise bytes with; ImageNet's when not given.
        std: likewise.
    """

    def __init__(
        self,
        stem: nn.Module,
        channels: int,
        positions: FourierPositions | LearnedGrid,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.positions = positions
        self.feature_dim = channels
        self.position_dim = positions.width
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, payload: Float[Tensor, "b c y x"] | UInt8[Tensor, "b c y x"], mask: Bool[Tensor, "b y x"] | None = None) -> Tokens:
        """Tokens of pictures: bytes 0 to 255 are standardised, floats are taken as they come, standardised before.

        Raises:
            ValueError: when the pictures are not bytes or floats in four axes, are bytes of another number of channels, or have a mask: a stem
                looks across its edge.
        """
        if payload.ndim != 4 or not (payload.is_floating_point() or payload.dtype == torch.uint8):
            raise ValueError(f"expected bytes or standardised floats (rows, channels, y, x), got {payload.dtype} of {tuple(payload.shape)}")
        if mask is not None:
            raise ValueError("a picture through a stem cannot be masked in part: leave the mask out; `_present` says which rows have a picture")
        if payload.dtype == torch.uint8:
            mean, std = self.get_buffer("mean"), self.get_buffer("std")
            if payload.shape[1] != len(mean):
                raise ValueError(f"pictures of {payload.shape[1]} channels, and bytes are standardised for {len(mean)}: give as many in mean and std")
            payload = (payload / 255 - mean) / std
        features = self.stem(payload)
        grid = tuple(features.shape[2:])
        return Tokens(rearrange(features, "b c y x -> b (y x) c"), grid, positions=self.positions(grid))

    def largest(self, rows: int) -> Float[Tensor, "b c y x"]:
        """A picture of which the stem makes as many places as the positions were made for, all zeros.

        Raises:
            ValueError: when the stem is none of this library's, so that it does not say how much smaller its map is.
        """
        stem, (y, x) = self.stem, self.positions.shape if isinstance(self.positions, FourierPositions) else self.positions.size
        if isinstance(stem, ConvStem):
            return torch.zeros(rows, stem.conv.in_channels, stem.shrinks * y, stem.shrinks * x)
        if isinstance(stem, nn.Conv2d) and stem.kernel_size == stem.stride:
            return torch.zeros(rows, stem.in_channels, stem.stride[0] * y, stem.stride[1] * x)
        if isinstance(stem, nn.Identity):
            return torch.zeros(rows, self.feature_dim, y, x)
        raise ValueError(f"a stem of class {type(stem).__name__} does not say how large a picture it takes: give a batch of your own")


class FramePair(Adapter):
    """Two frames, of which each pixel comes with its neighbours: the input of the published optical flow (Perceiver IO, section 4.3).

    Both frames of a place are one token, through one linear map.

    Args:
        size: rows and columns.
        channels: of a pixel with its neighbours; 3 x 3 of 3 colours are 27.
        dim: channels of a token beside its position.
        num_bands: Fourier bands an axis.
    """

    def __init__(self, size: Sequence[int], *, channels: int = 27, dim: int = 64, num_bands: int = 64) -> None:
        super().__init__()
        self.channels = channels
        self.positions = FourierPositions(size, num_bands)
        self.linear = nn.Linear(2 * channels, dim)
        self.feature_dim = dim
        self.position_dim = self.positions.width

    def forward(self, payload: Float[Tensor, "b 2 c y x"], mask: Bool[Tensor, "b y x"] | None = None) -> Tokens:
        """Tokens of pairs of frames.

        Raises:
            ValueError: when they are not pairs, have other channels or another size, or a mask.
        """
        wanted = (2, self.channels, *self.positions.shape)
        if tuple(payload.shape[1:]) != wanted:
            raise ValueError(
                f"expected pairs of frames of shape {wanted}, got {tuple(payload.shape[1:])}: cut the frames into tiles of {self.positions.shape}"
            )
        if mask is not None:
            raise ValueError("pairs of frames take no mask: cut them to what is valid")
        features = self.linear(rearrange(payload, "b t c y x -> b (y x) (t c)"))
        return Tokens(features, self.positions.shape, positions=self.positions(self.positions.shape))

    def largest(self, rows: int) -> Float[Tensor, "b 2 c y x"]:
        """A pair of frames of the one size that there is, all zeros."""
        return torch.zeros(rows, 2, self.channels, *self.positions.shape)
