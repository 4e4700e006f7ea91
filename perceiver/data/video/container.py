"""Containers: files that hold streams of pictures and sound, opened and decoded piece by piece on the clock of the file.

PyAV does it (`pip install perceiver-lightning[video]`), and is imported when the first file is opened. Whatever is corrupt where it is
read is an error: by itself FFmpeg would paint over it.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from perceiver.data.limits import Limits
from perceiver.data.rows import BadSample

FORMATS = "mov,mp4,matroska,webm,avi,mpegts,flv"  # those with timestamps to rely on; no playlists, which name other files and addresses
WAY_BACK = 5.0  # s before a time at which decoding starts, when starting there is not enough, and before it starts at the beginning
TICK = 1e-6  # s; times that differ by less are the same

Kind = Literal["video", "audio"]


def pyav() -> ModuleType:
    """PyAV.

    Raises:
        ImportError: saying how to install it.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("video is decoded by PyAV, which is not installed: pip install perceiver-lightning[video]") from error
    return av


class Container:
    """One file. Nothing of it stays open between calls.

    Args:
        file: where it is.
        sample: its id, for messages.
        limits: what it may hold.
    """

    def __init__(self, file: Path, sample: str, limits: Limits) -> None:
        self.file = file
        self.sample = sample
        self.limits = limits

    def bad(self, reason: str) -> BadSample:
        """The error of this file."""
        return BadSample(self.sample, reason)

    def check(self, **found: int | float) -> None:
        """Compares what the file claims with the limits; see `Limits.check`."""
        self.limits.check(self.sample, **found)

    def decoded(self, kind: Kind, wanted: object, time: float) -> Iterator[Any]:
        """The frames (PyAV's, of pictures or of sound) of a stream from a time on: first the one that has begun by then, if there is one.

        Args:
            kind: of the stream.
            wanted: its number among those of its kind, or (rows, columns) of a video stream, or the language of an audio stream.
            time: s, on the clock of the file.

        Raises:
            BadSample: when the file is no container, lacks the stream, goes beyond a limit, or is corrupt where it is read.
        """
        given = -math.inf
        for start in (time, time - WAY_BACK, -math.inf):
            all_of_it = True
            try:
                with self._opened() as opened:
                    stream = self._stream(opened, kind, wanted)
                    all_of_it = start <= (stream.start_time or 0) * stream.time_base
                    if not all_of_it:
                        opened.seek(math.floor(start / stream.time_base), stream=stream)
                    for frame in self._frames(opened, stream):
                        if frame.time > time + TICK and given == -math.inf and not all_of_it:
                            break  # without an index, a container may go to a place behind the one that was asked for
                        if frame.time > given:
                            given = frame.time
                            yield frame
                    else:
                        if given > -math.inf or all_of_it:
                            return
            except BadSample:  # in the middle of a file, a frame may refer to what was skipped; from the beginning, it is corrupt
                if all_of_it:
                    raise

    def extent(self, kind: Kind, wanted: object) -> tuple[float, float]:
        """When a stream begins and ends (s), as the header says: the file's end where it has none for the stream, else infinity.

        Raises:
            BadSample: when the file is no container, or lacks the stream.
        """
        with self._opened() as opened:
            stream = self._stream(opened, kind, wanted)
            begin = float((stream.start_time or 0) * stream.time_base)
            if stream.duration is not None:
                return begin, begin + float(stream.duration * stream.time_base)
            if tag := re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", "")):  # Matroska: the time of its end
                return begin, int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
            return begin, math.inf if opened.duration is None else ((opened.start_time or 0) + opened.duration) / pyav().time_base

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """PyAV's container; its errors within the context become those of the sample."""
        av = pyav()
        if not self.file.is_file():  # a pipe would wait for ever
            raise self.bad("there is no such file")
        self.check(bytes=self.file.stat().st_size)
        options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
        try:
            with av.open(f"file:{self.file}", container_options=options, metadata_errors="replace") as opened:
                if opened.duration is not None:
                    self.check(seconds=opened.duration / av.time_base)
                yield opened
        except av.FFmpegError as error:
            raise self.bad(f"it is corrupt, cut off, or in none of the formats {FORMATS}: {error.strerror}") from error

    def _stream(self, opened: Any, kind: Kind, wanted: object) -> Any:
        """The stream that is wanted, ready to be decoded."""
        cover = pyav().stream.Disposition.attached_pic
        streams = [stream for stream in getattr(opened.streams, kind) if not stream.disposition & cover]
        traits = [trait(stream) for stream in streams]
        found = [stream for number, stream in enumerate(streams) if wanted in (number, traits[number])]
        if not found:
            there = ", ".join(f"{number} {what}" for number, what in enumerate(traits)) or "none"
            raise self.bad(f"it has no {kind} stream {wanted!r}; of this kind it has: {there}")
        stream = found[0]
        if stream.codec_context is None:
            raise self.bad(f"{kind} stream {wanted!r} is in a format that cannot be decoded")
        options = {"err_detect": "explode"}
        if kind == "video":
            self.check(pixels=stream.height * stream.width)
            options["max_pixels"] = str(self.limits.pixels)  # a frame may claim more than the header
        else:
            self.check(sample_rate=stream.rate, channels=stream.channels)
        stream.codec_context.options = options
        stream.codec_context.thread_count = 1  # data workers already run side by side
        return stream

    def _frames(self, opened: Any, stream: Any) -> Iterator[Any]:
        """What a stream holds from here on, checked."""
        for packet in opened.demux(stream):
            for frame in packet.decode():
                if frame.pts is None or frame.is_corrupt or packet.is_corrupt:
                    raise self.bad(f"its {stream.type} is corrupt{'' if frame.pts is None else f' at {frame.time:.3f} s'}")
                yield frame


def trait(stream: Any) -> tuple[int, int] | str | None:
    """What a stream can be told by: (rows, columns) of pictures, where they can be decoded, and the language of sound."""
    if stream.type == "audio":
        return stream.language
    return None if stream.codec_context is None else (stream.height, stream.width)
