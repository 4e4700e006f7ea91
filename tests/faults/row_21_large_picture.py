"""A picture of a few kilobytes has, or claims, tens of millions of pixels."""

import json
import struct
from pathlib import Path

from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_files import PIXELS, large_png

FAULT = "a picture of 11 KB with 90 million pixels"
EXPECTED = "refused above the limit, from its header, before it is decoded"
NOT_APPLICABLE = dict.fromkeys(("lightning", "transformers", "accelerate"), "pictures are decoded by Pillow, which has a limit of its own")

MOST_BYTES = 20_000_000


def ours(folder: Path) -> str:
    """A PNG that would be decoded in full, and headers of other formats that claim more than there could be."""
    told = {}
    with Warm("faulty_ours") as act:
        for name, content in {"1.png": large_png(), "1.gif": gif(), "1.bmp": bmp(), "1.tiff": tiff()}.items():
            (folder / name).write_bytes(content)
            found = json.loads(act("read", folder / name, "decode_picture").said)["decode_picture"]
            if not any(word in found["said"] for word in ("pixels are more than the limit of 5e+07", "pixels) exceeds limit")):
                raise Fell(f"{name} of {len(content):,} bytes is not refused for its pixels: {found['said'] or 'it was taken for good'}")
            if found["bytes"] > MOST_BYTES:
                raise Fell(f"{name} was refused after {found['bytes'] / 1e6:.0f} MB had been taken")
            told[name] = found
    most = max(found["bytes"] for found in told.values())
    return f"{len(large_png()):,} bytes with {PIXELS[0] * PIXELS[1]:,} pixels, with {most / 1e6:.1f} MB of memory: {told['1.png']['said']}"


def gif() -> bytes:
    """A picture of 65,535 times 65,535 pixels, of which next to none is there."""
    screen = struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x44\x01\x00;"


def bmp() -> bytes:
    """A picture of 50,000 times 50,000 pixels, of which none is there."""
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0)


def tiff() -> bytes:
    """A picture of 100,000 times 100,000 pixels, of which none is there."""
    entries = [(256, 4, 100_000), (257, 4, 100_000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 100_000), (279, 4, 1)]
    listed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4)
