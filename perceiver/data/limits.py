"""Limits of decoding: what a file may claim before anything of it is decoded.

A picture of 11 KB can hold 90 million pixels, and a WAV of 44 bytes can claim 4 GiB: both are refused from their headers.
"""

from dataclasses import dataclass

from perceiver.data.rows import BadSample


@dataclass(frozen=True)
class Limits:
    """The most that one sample may be. What is beyond is a `BadSample`, never cut.

    Args:
        bytes: of the encoded file.
        pixels: of a picture, or of one frame.
        seconds: of sound or video.
        sample_rate: of sound, Hz.
        channels: of sound.
        frames: of a video.
    """

    bytes: int = 100_000_000
    pixels: int = 50_000_000
    seconds: float = 3_600.0
    sample_rate: int = 384_000
    channels: int = 32
    frames: int = 100_000

    def check(self, sample: str, **found: int | float) -> None:
        """Compares what a header says with the limits.

        Args:
            sample: the id, for the message.
            found: values by the name of their limit.

        Raises:
            BadSample: naming the value, the limit and what to change.
        """
        for name, value in found.items():
            limit = getattr(self, name)
            if value > limit:
                unit = name.replace("_", " ")
                raise BadSample(sample, f"{value:g} {unit} are more than the limit of {limit:g}: raise Limits.{name}, or leave it out")
