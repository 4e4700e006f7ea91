"""Lengths of sound files: what a file promises, held against the bytes that are there.

The decoder reads what it finds: half a WAV is half a sound to it, and a page that is missing in an OGG leaves no gap. So each container is
walked through before anything is decoded. What this cannot see: bytes that were changed in a WAV, and the bits of an MP3 frame.
"""

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple, NoReturn

PLAIN_CODECS = {1: "PCM", 3: "float", 6: "A-law", 7: "mu-law"}  # of WAV: those whose frames all have the same number of bytes
EXTENSIBLE = 0xFFFE  # the codec stands further behind
MOST_CHUNKS = 1_000

MP3_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1; half of them in MPEG 2, a quarter in 2.5
MP3_KBITS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_BEHIND = (b"", b"TAG", b"APE", b"LYR")  # how what may follow the last frame begins: tags of ID3v1, APE and Lyrics3


def promised_frames(opened: BinaryIO) -> int | None:
    """How many frames (a value of each channel) a sound file holds, after a walk through its container.

    Args:
        opened: the file; where it stands does not matter.

    Returns:
        The number, or None where the decoder's own word is good: it knows the length of FLAC, OGG and tagged MP3, and says when less comes.

    Raises:
        ValueError: when it is no WAV, FLAC, OGG or MP3, is cut off, or has no rate, no channel or no sound.
    """
    size = opened.seek(0, os.SEEK_END)
    if size == 0:
        raise ValueError("the file is empty: fetch it again, or leave it out")
    begin = behind_id3(opened)
    opened.seek(begin)
    magic = opened.read(4)
    walk = WALKS.get(magic, mp3_frames if magic[:1] == b"\xff" else unknown)
    return walk(opened, begin, size)


def unknown(opened: BinaryIO, begin: int, size: int) -> NoReturn:
    """Refuses what is none of the formats."""
    raise ValueError("it is no WAV, FLAC, OGG or MP3 file, whatever its name says: convert it to one of them")


def behind_id3(opened: BinaryIO) -> int:
    """Where the file begins behind its ID3v2 tags, which players put before MP3 and FLAC."""
    begin = 0
    while True:
        opened.seek(begin)
        tag = opened.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3":
            return begin
        begin += 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))


class WavFormat(NamedTuple):
    """The `fmt ` chunk of a WAV."""

    codec: int
    channels: int
    sample_rate: int  # Hz
    byte_rate: int
    frame_bytes: int
    bits: int


def wav_frames(opened: BinaryIO, begin: int, size: int) -> int:
    """Frames of a WAV: the length of its data chunk, which must all be there."""
    opened.seek(begin)
    riff = opened.read(4)
    order = ">" if riff == b"RIFX" else "<"
    form: WavFormat | None = None
    long_data = None  # RF64 says there how long its data chunk is
    for name, start, length in wav_chunks(opened, begin + 12, size, order):
        if name != b"data" and start + length > size:
            raise ValueError(f"the file is cut off, or no WAV: its chunk {name!r} is not all there")
        opened.seek(start)
        if name == b"ds64" and riff == b"RF64" and length >= 16:
            long_data = struct.unpack("<8xQ", opened.read(16))[0]
        elif name == b"fmt " and length >= 16:
            form = WavFormat(*struct.unpack(f"{order}HHIIHH", opened.read(16)))
            if form.codec == EXTENSIBLE and length >= 40:
                form = form._replace(codec=struct.unpack(f"{order}8xH", opened.read(10))[0])
        elif name == b"data":
            return frames_in(form, length if long_data is None else long_data, size - start)
    raise ValueError("the file is cut off, or no WAV: it has no data chunk")


def wav_chunks(opened: BinaryIO, start: int, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and length of each chunk of a WAV, as they say themselves."""
    for _ in range(MOST_CHUNKS):
        if start + 8 > size:
            return
        opened.seek(start)
        name, length = struct.unpack(f"{order}4sI", opened.read(8))
        yield name, start + 8, length
        start += 8 + length + length % 2


def frames_in(form: WavFormat | None, promised: int, there: int) -> int:
    """Frames of a data chunk."""
    if form is None:
        raise ValueError("its WAV header does not say its format before the data: convert it again")
    if form.sample_rate == 0 or form.channels == 0 or form.frame_bytes == 0:
        raise ValueError(f"its header says {form.sample_rate} Hz, {form.channels} channels and {form.frame_bytes} bytes a frame: none may be 0")
    if form.codec not in PLAIN_CODECS:
        raise ValueError(f"its WAV codec {form.codec:#06x} is none of {', '.join(PLAIN_CODECS.values())}: convert it to PCM")
    if promised > there:
        raise ValueError(f"the file is cut off: its header promises {promised:,} bytes of sound, and {there:,} are there")
    if promised % form.frame_bytes:
        raise ValueError(f"its last frame is cut off: {promised:,} bytes of sound are no multiple of {form.frame_bytes} bytes a frame")
    return promised // form.frame_bytes


def ogg_frames(opened: BinaryIO, begin: int, size: int) -> None:
    """Walks through the pages of an OGG, which must follow one another from a first to a last one."""
    start, number, last = begin, 0, False
    while start < size:
        opened.seek(start)
        header = opened.read(27)
        if len(header) < 27 or header[:4] != b"OggS":
            raise ValueError(f"it is garbled or cut off at its byte {start:,}: a page of the OGG should begin there")
        first, last = bool(header[5] & 2), bool(header[5] & 4)
        if first != (number == 0):
            raise ValueError("it holds more than one stream, and only one would be heard: split it")
        if number != struct.unpack("<I", header[18:22])[0]:
            raise ValueError(f"page {number} of the OGG is missing: fetch it again")
        start += 27 + header[26] + sum(opened.read(header[26]))
        number += 1
    if start > size or not last:
        raise ValueError(f"the file is cut off in or behind page {number - 1} of the OGG, which is not marked as its last: fetch it again")


def mp3_frames(opened: BinaryIO, begin: int, size: int) -> int | None:
    """Walks through the packets of an MP3. Where none of them says how many there are, they are counted: the decoder would guess."""
    start, packets, samples, tag = begin, 0, 0, b""
    while True:
        opened.seek(start)
        header = opened.read(4)
        if header[:3] in MP3_BEHIND:
            break
        length, samples = mp3_packet(header, start)
        if packets == 0:
            tag = opened.read(length - 4)
        start += length
        if start > size:
            raise ValueError(f"the file is cut off: packet {packets} of the MP3 is not all there")
        packets += 1
    place = max(tag.find(b"Xing"), tag.find(b"Info"))
    fields = tag[place + 4 : place + 12]  # which fields there are, and the first one: the number of packets
    if place < 0 or len(fields) < 8 or not fields[3] & 1:
        return packets * samples
    promised = int.from_bytes(fields[4:], "big")
    if promised > packets:
        raise ValueError(f"the file is cut off: it promises {promised} packets of MP3, and {packets} are there")
    return None


def mp3_packet(header: bytes, start: int) -> tuple[int, int]:
    """Bytes of a packet, and the frames in it."""
    header = header.ljust(4, b"\0")
    sync, version, layer = int.from_bytes(header[:2], "big") >> 5, header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits, rate = header[2] >> 4, header[2] >> 2 & 3
    if sync != 0x7FF or version == 1 or layer != 1 or kbits in (0, 15) or rate == 3:
        raise ValueError(f"it is garbled at its byte {start:,}, or no MP3: a packet of MPEG layer III should begin there")
    generation = 1 if version == 3 else 2
    frames = 1152 // generation
    hertz = MP3_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    return frames // 8 * MP3_KBITS[generation][kbits] * 1000 // hertz + (header[2] >> 1 & 1), frames


Walk = Callable[[BinaryIO, int, int], int | None]  # from the file, where its content begins, and how long it is
WALKS: Mapping[bytes, Walk] = {b"RIFF": wav_frames, b"RIFX": wav_frames, b"RF64": wav_frames, b"OggS": ogg_frames, b"fLaC": lambda *_: None}
