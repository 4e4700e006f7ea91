"""Fuzzing of pictures: what is seen has the size that the file promises, or the sample is named as a bad one."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from perceiver.data.image.file import decode_picture
from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample
from tests.fuzz.cases import check_told, fuzz
from tests.fuzz.mutations import mutated

NOISE = np.random.default_rng(11)
SMALL = Limits(bytes=100_000, pixels=10_000)
TURNED = 274  # the EXIF tag of the orientation
TOKENS = (
    b"IHDR",
    b"IEND",
    b"acTL",
    b"\xff\xd8\xff",
    b"\xff\xc0",
    b"\xff\xe1",
    b"Exif\0\0",
    b"GIF89a",
    b"BM",
    b"VP8L",
    b"II*\0",
    b"MM\0*",
    b"\0" * 12,
)


def picture(form: str, mode: str = "RGB", **options: Any) -> bytes:
    """The content of a picture of 13 x 7 pixels."""
    pixels = NOISE.integers(256, size=(13, 7, len(mode)), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels if len(mode) > 1 else pixels[..., 0]).save(file, form, **options)
    return file.getvalue()


def turned() -> Image.Exif:
    """The metadata of a picture that lies on its side."""
    found = Image.Exif()
    found[TURNED] = 6
    return found


PICTURES = {
    "PNG": picture("PNG"),
    "PNG of grey": picture("PNG", "L", optimize=True),
    "PNG, transparent": picture("PNG", "RGBA"),
    "JPEG": picture("JPEG", exif=turned()),
    "JPEG, progressive": picture("JPEG", "L", progressive=True),
    "GIF": picture("GIF"),
    "BMP": picture("BMP"),
    "BMP of grey": picture("BMP", "L"),
    "WebP": picture("WEBP"),
    "WebP, lossless": picture("WEBP", "RGBA", lossless=True),
    "TIFF": picture("TIFF"),
    "TIFF, packed": picture("TIFF", compression="tiff_lzw"),
}


def summed(content: bytes) -> bytes:
    """A PNG whose chunks have right sums, whatever was changed in them; without, hardly any change gets past the first chunk."""
    found, start = bytearray(content), 8
    while start + 12 <= len(found):
        (length,) = struct.unpack_from(">I", found, start)
        if start + 12 + length > len(found):
            break
        struct.pack_into(">I", found, start + 8 + length, zlib.crc32(found[start + 4 : start + 8 + length]))
        start += 12 + length
    return bytes(found)


def changed_header(form: str) -> SearchStrategy[bytes]:
    """A picture after mutations at its beginning."""
    found = mutated(PICTURES[form], within=150, tokens=TOKENS)
    return found if PICTURES[form][:4] != b"\x89PNG" else st.one_of(found, found.map(summed), found.map(summed))


def seen(content: bytes, channels: int) -> torch.Tensor | None:
    """What is seen in a content; None when it is refused."""
    try:
        return decode_picture("the sample", content, channels, SMALL)
    except BadSample as error:
        check_told(error, "the sample: ")
        return None


def check(content: bytes, channels: int) -> None:
    """A picture of the size that its header says, on its side or not, or none."""
    if (found := seen(content, channels)) is None:
        return
    size = Image.open(io.BytesIO(content)).size
    assert found.dtype == torch.uint8 and found.shape[0] == channels and sorted(found.shape[1:]) == sorted(size)
    assert size[0] * size[1] <= SMALL.pixels


@fuzz(
    2_400,
    channels=st.sampled_from([1, 3]),
    content=st.sampled_from(sorted(PICTURES)).flatmap(changed_header),
)
def test_a_picture_whose_header_was_changed_has_the_size_that_it_promises_or_is_a_bad_one(channels, content):
    check(content, channels)


@fuzz(600, channels=st.sampled_from([1, 3]), content=st.sampled_from(sorted(PICTURES)).flatmap(lambda form: mutated(PICTURES[form], tokens=TOKENS)))
def test_a_picture_that_was_changed_anywhere_has_the_size_that_it_promises_or_is_a_bad_one(channels, content):
    check(content, channels)


@fuzz(400, form=st.sampled_from(sorted(PICTURES)), part=st.floats(0, 1, exclude_max=True))
def test_a_picture_that_was_cut_off_is_a_bad_one_or_has_lost_nothing(form, part):
    whole, left = seen(PICTURES[form], 3), seen(PICTURES[form][: int(part * len(PICTURES[form]))], 3)
    assert whole is not None and (left is None or torch.equal(left, whole))
