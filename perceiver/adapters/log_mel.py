"""Log-mel adapter: a sound becomes tokens of a spectrogram on the mel scale.

Letters: b rows, c sound channels, s samples, f frames, k mel bands, t patches of time, u patches of pitch.
"""

from collections.abc import Sequence

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torchaudio.transforms import MelScale, Spectrogram

from perceiver.adapters.adapter import Adapter
from perceiver.adapters.audio import check_sound, silence_behind
from perceiver.positions import FourierPositions
from perceiver.tokens import Tokens

FLOOR = 1e-5  # of the mel energies, before the logarithm: about -100 dB below a full-scale sine


class LogMel(Adapter):
    """Log energies of mel bands, frames of 32 ms every 10 ms, with Fourier features of time and pitch.

    Args:
        sample_rate: of the sound, Hz.
        max_seconds: the longest sound.
        num_mels: mel bands.
        patch: frames and mel bands in one token; the bands must divide `num_mels`.
        num_bands: Fourier bands an axis.
        mean: of the natural logarithm of the energies, to standardise with.
        std: likewise.

    Raises:
        ValueError: when the sample rate is too low for a frame, the sound has no length, or the patches do not tile the bands.
    """

    def __init__(
        self,
        sample_rate: int,
        max_seconds: float,
        *,
        num_mels: int = 40,
        patch: Sequence[int] = (4, 40),
        num_bands: int = 16,
        mean: float = -4.0,
        std: float = 4.0,
    ) -> None:
        super().__init__()
        if sample_rate < 1_000:
            raise ValueError(f"sample_rate={sample_rate} Hz is too low for frames of 32 ms: give at least 1000 Hz")
        if max_seconds <= 0:
            raise ValueError(f"max_seconds={max_seconds}: give a positive time")
        if num_mels % patch[1]:
            raise ValueError(f"patches of {patch[1]} mel bands do not tile {num_mels}: choose a divisor")
        self.sample_rate = sample_rate
        self.max_samples = round(sample_rate * max_seconds)
        self.hop = sample_rate // 100
        self.patch = tuple(patch)
        self.mean = mean
        self.std = std
        # Zeros around the sound, not its mirror image: then a frame does not depend on where the batch's padding ends.
        window, n_fft = sample_rate * 32 // 1000, 2 ** (sample_rate * 32 // 1000 - 1).bit_length()
        self.stft = Spectrogram(n_fft, win_length=window, hop_length=self.hop, power=None, pad_mode="constant")
        self.mel = MelScale(num_mels, sample_rate, n_stft=n_fft // 2 + 1)
        frames = self.max_samples // self.hop + 1
        self.positions = FourierPositions((-(-frames // patch[0]), num_mels // patch[1]), num_bands)
        self.feature_dim = patch[0] * patch[1]
        self.position_dim = self.positions.width

    def spectrogram(self, payload: Float[Tensor, "b 1 s"]) -> Float[Tensor, "b f k"]:
        """Standardised log energies, frame i centred at sample i * hop; always float32."""
        with torch.autocast(payload.device.type, enabled=False):
            spectrum = self.stft(payload[:, 0].float())
            # A fifth of a training step went into `abs().square()`, or into a sum over an axis of two: this is three times faster.
            energies = self.mel(spectrum.real.square() + spectrum.imag.square())
        return rearrange((energies.clamp_min(FLOOR).log() - self.mean) / self.std, "b k f -> b f k")

    def forward(self, payload: Float[Tensor, "b 1 s"], mask: Bool[Tensor, "b s"] | None = None) -> Tokens:
        """Tokens of waveforms in [-1, 1]; a patch may be attended if any of its frames is centred on a valid sample.

        Raises:
            ValueError: when there is no sample, too many, or more than one channel.
        """
        check_sound(payload, 1, self.max_samples)
        payload, mask = silence_behind(payload, mask)
        frames = self.spectrogram(payload)
        # Frame 0 is centred on sample 0; the last may be centred just behind the sound's end.
        valid = mask[:, :: self.hop]
        valid = F.pad(valid, (0, frames.shape[1] - valid.shape[1]))
        time, pitch = self.patch
        short = -frames.shape[1] % time
        frames = F.pad(frames.masked_fill(~valid[..., None], 0), (0, 0, 0, short))
        features = rearrange(frames, "b (t i) (u j) -> b (t u) (i j)", i=time, j=pitch)
        patches = reduce(F.pad(valid, (0, short)), "b (t i) -> b t", "max", i=time)
        grid = (patches.shape[1], self.positions.shape[1])
        tokens_mask = patches.repeat_interleave(grid[1], 1)
        return Tokens(features, grid, positions=self.positions(self.positions.shape).first(grid[0]), mask=tokens_mask)

    def largest(self, rows: int) -> Float[Tensor, "b 1 s"]:
        """A sound of the longest time, all zeros."""
        return torch.zeros(rows, 1, self.max_samples)
