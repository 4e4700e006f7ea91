"""Image files: one picture out of an encoded file, as bytes 0 to 255 of the channels and the size that a model wants.

What the header claims is held against the limits before a pixel is decoded. Kinds of picture are brought to one:

- 16-bit grey levels are rounded to 8 bits; deeper ones and floats have no range that a file would state, and are refused;
- what is transparent becomes white, in proportion;
- palettes are looked up; CMYK is converted; grey is the luma of ITU-R BT.601; grey as colour is three equal channels;
- a picture is turned the way its EXIF orientation says;
- animations and stacks of pages are refused; of a JPEG with further pictures (MPO), as phones write them, the first is taken.

Letters: c colour channels, y x rows and columns of pixels.
"""

import io
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MODES = {1: "L", 3: "RGB"}  # Pillow's words for grey and colour, by the number of channels


def read_picture(sample: str, file: Path, channels: int, limits: Limits) -> UInt8[Tensor, "c y x"]:
    """The picture in a file.

    Args:
        sample: its id, for messages.
        file: where it is.
        channels: 1 for grey, 3 for colour.
        limits: what it may claim.

    Raises:
        BadSample: when it cannot be read, is beyond a limit, or is no picture that can be decoded in full.
    """
    try:
        limits.check(sample, bytes=file.stat().st_size)
        content = file.read_bytes()
    except OSError as error:
        raise BadSample(sample, f"the file cannot be read: {error.strerror or error}") from error
    return decode_picture(sample, content, channels, limits)


def decode_picture(sample: str, content: bytes, channels: int, limits: Limits) -> UInt8[Tensor, "c y x"]:
    """The picture in an encoded file's content; see `read_picture`.

    Raises:
        BadSample: when it is beyond a limit, or is no picture that can be decoded in full.
    """
    if not content:
        raise BadSample(sample, "the file is empty: fetch it again, or leave it out")
    try:
        picture = open_header(content)
        limits.check(sample, pixels=picture.width * picture.height)
        if picture.format != "MPO" and getattr(picture, "is_animated", False):
            raise BadSample(sample, "it has more than one frame or page: save one of them as a picture of its own")
        return to_tensor(picture, channels)
    except (BadSample, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadSample(sample, f"it is no picture in any of the formats {', '.join(FORMATS)}, or its header is broken") from error
    except Exception as error:  # broken content makes decoders raise anything
        raise BadSample(sample, f"it cannot be decoded: {' '.join(str(error).split()) or type(error).__name__}") from error


def open_header(content: bytes) -> Image.Image:
    """The picture as its header describes it, nothing of it decoded yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limits are the caller's
        return Image.open(io.BytesIO(content), formats=FORMATS)


def to_tensor(picture: Image.Image, channels: int) -> UInt8[Tensor, "c y x"]:
    """Decodes a picture, turns it upright, and converts it to grey (1 channel) or colour (3)."""
    ImageOps.exif_transpose(picture, in_place=True)
    pixels = np.array(in_eight_bits(picture).convert(MODES[channels]))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)


def in_eight_bits(picture: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel and nothing transparent.

    Raises:
        ValueError: when its pixels have no range that could be mapped to 0 to 255.
    """
    if picture.mode in ("I", "F") or (picture.mode.startswith("I;16") and picture.has_transparency_data):
        raise ValueError(f"pixels of mode {picture.mode} have no 8-bit equivalent: save it with 8 bits a channel")
    if picture.mode.startswith("I;16"):
        levels = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # round(level / 65535 * 255)
    if picture.has_transparency_data:
        coloured = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
    return picture


def fit(image: UInt8[Tensor, "c y x"], size: Sequence[int]) -> UInt8[Tensor, "c y2 x2"]:
    """The largest centred part that has the aspect of `size`, resized to it: bilinear, with antialiasing.

    That is what resizing the shorter side and cropping the centre shows, but a long thin picture never becomes a huge one on the way.
    """
    rows, columns = image.shape[1:]
    height = min(rows, max(1, round(columns * size[0] / size[1])))
    width = min(columns, max(1, round(rows * size[1] / size[0])))
    transforms = import_module("torchvision.transforms.v2.functional")
    top, left = (rows - height) // 2, (columns - width) // 2
    return transforms.resized_crop(image, top, left, height, width, list(size), antialias=True).contiguous()
