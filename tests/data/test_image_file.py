"""Image files: every kind of picture becomes the same kind, and what is broken or too large is refused by its name."""

import io
import warnings
import zlib
from functools import partial
from struct import pack

import numpy as np
import pytest
import torch
from builders import bounded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from torchvision.transforms import v2

from perceiver.data.image.file import FORMATS, decode_picture, fit, read_picture
from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample

NOISE = np.random.default_rng(7)
GREY = NOISE.integers(256, size=(7, 5), dtype=np.uint8)
COLOUR = NOISE.integers(256, size=(7, 5, 3), dtype=np.uint8)
ALPHA = NOISE.integers(256, size=(7, 5, 1), dtype=np.uint8)
LEVELS = NOISE.integers(2**16, size=(7, 5)).astype(np.uint16)
PALETTE = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 110, 120]], dtype=np.uint8)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def encoded(pixels, form="PNG", **options):
    """The file of a picture, or of an array that is one."""
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def with_palette(**options):
    picture = Image.fromarray(GREY % 4).convert("L")
    picture.putpalette(PALETTE.reshape(-1).tolist())
    return encoded(picture, **options)


def decoded(content, channels=3, **limits):
    """Rows, columns and channels, as arrays have them."""
    return decode_picture("it", content, channels, Limits(**limits)).permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("channels", "pixels"), [(1, GREY), (3, COLOUR)])
def test_every_allowed_format_gives_the_pixels_that_were_put_in(form, channels, pixels):
    if form in ("JPEG", "GIF"):  # one colour, which neither their losses nor their palettes change
        pixels = np.ascontiguousarray(np.broadcast_to(pixels[:1, :1], pixels.shape))
    found = decoded(encoded(pixels, form, **{"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(form, {})), channels)
    assert np.abs(found - pixels.reshape(7, 5, channels)).max() <= (2 if form == "JPEG" else 0)


def over_white(pixels, alpha):
    return (pixels * (alpha / 255) + 255 * (1 - alpha / 255)).round()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (with_palette(), PALETTE[GREY % 4]),
        (with_palette(transparency=2), np.where((GREY % 4 == 2)[..., None], 255, PALETTE[GREY % 4])),
        (with_palette(transparency=bytes([0, 85, 170, 255])), over_white(PALETTE[GREY % 4], 85.0 * (GREY % 4)[..., None])),
        (encoded(np.concatenate([COLOUR, ALPHA], 2)), over_white(COLOUR, ALPHA)),
        (encoded(np.concatenate([GREY[..., None], ALPHA], 2)), np.repeat(over_white(GREY[..., None], ALPHA), 3, 2)),
        (encoded(COLOUR, transparency=tuple(COLOUR[2, 3].tolist())), np.where((COLOUR == COLOUR[2, 3]).all(2, keepdims=True), 255, COLOUR)),
        (encoded(GREY), np.repeat(GREY[..., None], 3, 2)),
        (encoded(LEVELS), np.repeat((LEVELS / 65535 * 255).round()[..., None], 3, 2)),
        (encoded(LEVELS, "TIFF"), np.repeat((LEVELS / 65535 * 255).round()[..., None], 3, 2)),
        (encoded(LEVELS.astype(">u2"), "TIFF"), np.repeat((LEVELS / 65535 * 255).round()[..., None], 3, 2)),
        (encoded(Image.fromarray(GREY > 128)), np.repeat(255 * (GREY > 128)[..., None], 3, 2)),
    ],
    ids=[
        "palette", "palette, one colour transparent", "palette with alpha", "colour with alpha", "grey with alpha", "one colour transparent",
        "grey", "16 bits, PNG", "16 bits, TIFF", "16 bits, big-endian", "1 bit",
    ],
)  # fmt: skip
def test_every_kind_of_pixel_becomes_colour_of_8_bits(content, wanted):
    assert np.abs(decoded(content) - wanted).max() <= 1  # compositing rounds twice


@pytest.mark.parametrize("content", [encoded(LEVELS), encoded(LEVELS, "TIFF"), encoded(LEVELS.astype(">u2"), "TIFF")])
def test_16_bits_are_rounded_and_not_cut_off(content):
    assert np.array_equal(decoded(content, channels=1)[..., 0], (LEVELS / 65535 * 255).round())


def test_colour_becomes_grey_by_its_luma():
    assert np.abs(decoded(encoded(COLOUR), channels=1)[..., 0] - COLOUR @ LUMA).max() <= 0.51


def test_cmyk_becomes_colour():
    ink = np.concatenate([COLOUR, np.zeros_like(ALPHA)], 2)
    assert np.abs(decoded(encoded(Image.frombytes("CMYK", (5, 7), ink.tobytes()), "TIFF")) - (255 - COLOUR)).max() == 0


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (encoded(LEVELS.astype(np.int32), "TIFF"), "I"),
        (encoded(LEVELS.astype(np.float32), "TIFF"), "F"),
        (encoded(LEVELS, transparency=int(LEVELS[2, 3])), "I;16"),
    ],
)
def test_pixels_without_a_stated_range_are_refused(content, mode):
    with pytest.raises(BadSample, match=f"^it: it cannot be decoded: pixels of mode {mode} have no 8-bit equivalent"):
        decoded(content)


# What has to be stored so that a viewer that follows the orientation shows the picture (EXIF 2.3, tag 0x0112).
STORED = {
    1: lambda picture: picture,
    2: np.fliplr,
    3: partial(np.rot90, k=2),
    4: np.flipud,
    5: lambda picture: picture.swapaxes(0, 1),
    6: np.rot90,
    7: lambda picture: np.rot90(picture, 2).swapaxes(0, 1),
    8: partial(np.rot90, k=-1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_a_picture_is_turned_as_its_orientation_says(form, orientation):
    corner = np.zeros((32, 16, 3), np.uint8)
    corner[:16, :8], corner[:16, 8:] = (200, 200, 200), (100, 100, 100)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decoded(encoded(np.ascontiguousarray(STORED[orientation](corner)), form, exif=exif, **({"lossless": True} if form == "WEBP" else {})))
    assert found.shape == corner.shape and np.abs(found - corner).max() <= 8  # JPEG


def claims(rows, columns, pixels=b""):
    """A PNG of black and white whose header claims a size, with so many pixels in it as are given."""

    def chunk(kind, content):
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    header = pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")


@pytest.fixture
def nothing_is_decoded(monkeypatch):
    def load(self):
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


def test_a_bomb_of_11_kilobytes_and_90_million_pixels_is_refused_by_its_header(nothing_is_decoded):
    bomb = claims(9500, 9500, bytes(9500 * (1 + 1188)))
    assert len(bomb) < 12_000
    with pytest.raises(BadSample, match=r"^it: 9.025e\+07 pixels are more than the limit of 5e\+07: raise Limits.pixels"):
        decoded(bomb)


@pytest.mark.parametrize("side", [14_000, 2**31 - 1])
def test_a_claim_beyond_what_pillow_opens_is_refused_whatever_the_limit(nothing_is_decoded, side):
    with pytest.raises(BadSample, match=f"^it: .*{side * side} pixels"):
        decoded(claims(side, side), pixels=10**20)


def test_a_limit_can_be_raised_and_its_bound_itself_is_allowed():
    content = encoded(COLOUR)
    assert decoded(content, pixels=35).shape == (7, 5, 3)
    with pytest.raises(BadSample, match="35 pixels are more than the limit of 34"):
        decoded(content, pixels=34)


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    file = tmp_path / "1.png"
    file.write_bytes(encoded(COLOUR))
    size = file.stat().st_size
    assert read_picture("1.png", file, 3, Limits(bytes=size)).shape == (3, 7, 5)
    monkeypatch.setattr(type(file), "read_bytes", lambda self: pytest.fail("read"))
    with pytest.raises(BadSample, match=f"^1.png: {size} bytes are more than the limit of {size - 1}"):
        read_picture("1.png", file, 3, Limits(bytes=size - 1))


ANIMATION = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"This is no picture.", "no picture in any of the formats PNG, JPEG"),
        (encoded(COLOUR, "PPM"), "no picture in any of the formats"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no picture in any of the formats"),
        (encoded(COLOUR)[:-40], "cannot be decoded: .*truncated"),
        (encoded(COLOUR)[:20], "no picture in any of the formats|cannot be decoded"),
        (encoded(COLOUR, "JPEG")[:-40], "cannot be decoded: .*truncated"),
        (encoded(COLOUR, "BMP")[:-40], "cannot be decoded: .*truncated"),
        (encoded(COLOUR, "WEBP")[:-20], "cannot be decoded|no picture"),
        (claims(0, 5), "no picture in any of the formats"),
        (encoded(ANIMATION[0], "GIF", save_all=True, append_images=ANIMATION[1:]), "more than one frame"),
        (encoded(ANIMATION[0], "PNG", save_all=True, append_images=ANIMATION[1:]), "more than one frame"),
        (encoded(ANIMATION[0], "WEBP", save_all=True, append_images=ANIMATION[1:]), "more than one frame"),
        (encoded(ANIMATION[0], "TIFF", save_all=True, append_images=ANIMATION[1:]), "more than one frame"),
    ],
)
def test_what_is_no_single_whole_picture_is_refused_with_the_reason(content, reason):
    with pytest.raises(BadSample, match=f"^it: .*({reason})") as caught:
        decoded(content)
    assert "\n" not in str(caught.value)


def test_of_a_jpeg_with_further_pictures_the_first_is_taken():
    flat = np.full((8, 16), 100, np.uint8)
    content = encoded(flat, "MPO", save_all=True, append_images=[Image.fromarray(2 * flat)])
    assert Image.open(io.BytesIO(content)).n_frames == 2 and np.abs(decoded(content) - 100).max() <= 1


@bounded
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=7),
    st.integers(0, 10**6),
)
def test_a_damaged_file_is_a_picture_or_a_bad_sample_and_nothing_else(form, damages, cut):
    content = bytearray(encoded(COLOUR, form))
    for place, value in damages:
        content[place % len(content)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of tags that it cannot read
        try:
            picture = decode_picture("it", bytes(content[: 1 + cut % (2 * len(content))]), 3, Limits(pixels=10_000))
        except BadSample:
            return
    assert picture.dtype == torch.uint8 and picture.shape[0] == 3 and 0 < picture[0].numel() <= 10_000


@pytest.mark.parametrize(("rows", "columns"), [(60, 110), (110, 60), (34, 22), (17, 11), (5, 200), (13, 7)])
def test_fitting_shows_what_resizing_the_shorter_side_and_cropping_the_centre_shows(rows, columns):
    smooth = torch.linspace(0, 2, rows)[:, None].sin() * torch.linspace(0, 3, columns).cos()
    image = ((smooth + 1) * 127).to(torch.uint8).expand(3, -1, -1).contiguous()
    scale = max(17 / rows, 11 / columns)
    covering = [max(17, round(rows * scale)), max(11, round(columns * scale))]
    reference = v2.Compose([v2.Resize(covering, antialias=True), v2.CenterCrop((17, 11))])(image)
    found = fit(image, (17, 11))
    assert found.shape == (3, 17, 11) and found.is_contiguous()
    assert (found.int() - reference.int()).abs().float().mean() < 6 and (found.int() - reference.int()).abs().max() < 22


def test_a_picture_of_the_right_size_stays_as_it_is_and_a_smaller_one_grows():
    image = torch.from_numpy(COLOUR).permute(2, 0, 1)
    assert torch.equal(fit(image, (7, 5)), image)
    assert fit(image, (19, 23)).shape == (3, 19, 23)


def test_shrinking_averages_and_does_not_skip():
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(1, 30, 15)
    assert (fit(stripes, (6, 6)).int() - 100).abs().max() < 25  # every fifth column alone would be wrong by 100


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_a_long_thin_picture_never_becomes_a_huge_one_on_the_way(shape, monkeypatch):
    largest = []
    resize = torch.nn.functional.interpolate
    monkeypatch.setattr(torch.nn.functional, "interpolate", lambda image, *a, **k: largest.append(image.numel()) or resize(image, *a, **k))
    assert fit(torch.zeros((3, *shape), dtype=torch.uint8), (224, 221)).shape == (3, 224, 221)
