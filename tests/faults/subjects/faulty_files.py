"""Files that are meant ill: checkpoints that run code or burst, pictures that burst, sounds that lie about themselves."""

import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

BOMB_BYTES = 400_000_000  # of a checkpoint, once it is unpacked
PIXELS = (30_000, 3_000)  # columns and rows of a picture, 90 million


class Payload:
    """When it is unpickled, a folder appears: code has run.

    Args:
        marker: the folder.
    """

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


def save_with_payload(content: dict[str, Any], file: Path, marker: Path, *, zipped: bool = True) -> None:
    """Saves a checkpoint as `torch.save` does, with code in it.

    Args:
        content: of the checkpoint, beside it.
        file: where it goes.
        marker: the folder that shows that the code has run.
        zipped: whether it has PyTorch's form of today, or the one before.
    """
    torch.save(content | {"more": Payload(marker)}, file, _use_new_zipfile_serialization=zipped)


def has_run(marker: Path, text: str) -> bool:
    """Whether code has run: its folder is there, or it said that it could not be made."""
    return marker.exists() or str(marker) in text


def check_live(folder: Path) -> None:
    """Makes sure that code in a checkpoint runs where nothing is done about it: otherwise no refusal would mean anything."""
    file, marker = folder / "live.pt", folder / "live"
    save_with_payload({}, file, marker)
    torch.load(file, weights_only=False)
    pickle.loads(pickle.dumps(Payload(folder / "live as well")))
    if not marker.is_dir() or not (folder / "live as well").is_dir():
        raise RuntimeError("the payload does nothing, so that this row shows nothing")


def pack_tight(content: dict[str, Any], file: Path) -> None:
    """Saves a checkpoint with a tensor of zeros, as an archive that is packed: a four-hundredth of its size.

    Args:
        content: of the checkpoint, beside the tensor.
        file: where it goes.
    """
    plain = file.with_name(f"{file.name}.plain")
    torch.save(content | {"zeros": torch.zeros(BOMB_BYTES // 4)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            with source.open(entry) as opened, target.open(entry.filename, "w", force_zip64=True) as written:
                while piece := opened.read(1 << 22):
                    written.write(piece)
    plain.unlink()


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most memory that a call takes at a time, beside what was there before it; what it raises is no matter."""
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the kernel forgets the peak until here
    with suppress(Exception):
        call()
    return max(0, _memory("VmHWM") - before)


def _memory(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def large_png() -> bytes:
    """A picture of 11 KB with 90 million pixels, all black."""
    columns, rows = PIXELS
    packed = zlib.compressobj(9)
    pixels = b"".join(packed.compress(bytes(1 + columns // 8)) for _ in range(rows)) + packed.flush()
    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_part(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")))


def _png_part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def wav(samples: bytes, *, rate: int = 8_000, channels: int = 1, bits: int = 16, kind: int = 1, claimed: int | None = None) -> bytes:
    """A WAV file.

    Args:
        samples: their bytes.
        rate: Hz.
        channels: number of channels.
        bits: of a sample.
        kind: 1 = whole numbers, 3 = floats.
        claimed: bytes of samples that the header claims; as many as there are when not given.
    """
    size = len(samples) if claimed is None else claimed
    frame = channels * bits // 8
    header = struct.pack("<HHIIHH", kind, channels, rate, min(rate * frame, 2**32 - 1), frame, bits)
    file = io.BytesIO()
    file.write(b"RIFF" + struct.pack("<I", min(36 + size, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", len(header)) + header)
    file.write(b"data" + struct.pack("<I", size) + samples)
    return file.getvalue()
