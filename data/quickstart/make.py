"""Builds the quickstart dataset in this folder: handwritten digits, spoken digits, and the questions asked about them.

    apt-get install espeak-ng && pip install perceiver-lightning scikit-learn
    python data/quickstart/make.py

Needed only to change the dataset: what it writes (`digits.npz`, `speech/*.flac`, `clips.csv`) is committed.
Everything is drawn from fixed seeds, so that two runs with one version of espeak-ng write the same samples.
"""

import csv
import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import torch
from sklearn.datasets import load_digits
from torchaudio.functional import resample

FOLDER = Path(__file__).parent
SAMPLE_RATE = 8_000  # Hz
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-us-nyc", "en-gb-x-gbcwmd", "en-029")
# One entry a speaker. Variants that espeak-ng derives from one another stand in one entry and so in one split: a
# voice of the test split never has a near twin in training. Left out: whispers, robots, demons, loudspeakers.
SPEAKERS = (
    "adam Alex Alicia Andrea Andy Annie antonio,Antonio aunty belinda benjamin boris caleb david Denis Diogo ed edward,edward2 "
    "Gene,Gene2 gustave Henrique Hugo iven,iven2,iven3,iven4 Jacky john kaukovalta Lee linda marcelo Marco Mario max Michael "
    "michel Miguel mike Mr Nguyen pablo paul pedro quincy rob robert steph,steph2,steph3 travis victor norbert sandro shelby "
    "Zac anika f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 grandma grandpa klatt,klatt2,klatt3,klatt4"
).split()
SPEAKERS_IN = {"train": 46, "val": 7, "test": 12}
TAKES_IN = {"train": 3, "val": 2, "test": 2}  # recordings of each digit by each speaker
IMAGES_IN = {"train": 1257, "val": 180, "test": 360}


def speak(word: str, voice: str, rate: int, pitch: int) -> torch.Tensor:
    """One word as a mono waveform at 8 kHz, silence trimmed, peak 0.9, rounded to 9 bits (and FLAC stores no more)."""
    command = ["espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch), "--stdout", word]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    samples, sample_rate = soundfile.read(io.BytesIO(raw), dtype="float32")
    wave = resample(torch.from_numpy(samples), sample_rate, SAMPLE_RATE)
    loud = (wave.abs() > 0.02 * wave.abs().max()).nonzero().flatten()
    wave = wave[max(0, int(loud[0]) - 160) : int(loud[-1]) + 161]
    return (wave / wave.abs().max() * 0.9 * 256).round() / 256


def make_speech() -> None:
    generator = np.random.default_rng(20261122)
    order = generator.permutation(len(SPEAKERS))
    bounds = np.cumsum([0, *SPEAKERS_IN.values()])
    (FOLDER / "speech").mkdir(exist_ok=True)
    with open(FOLDER / "clips.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("split", "file", "start", "stop", "digit", "voice", "rate", "pitch"))
        for s, split in enumerate(SPEAKERS_IN):
            for n, speaker in enumerate(order[bounds[s] : bounds[s + 1]]):
                variants = SPEAKERS[speaker].split(",")
                name = f"speech/{split}-{n:02d}-{variants[0].lower()}.flac"
                clips, start = [], 0
                for take in range(TAKES_IN[split]):
                    for digit, word in enumerate(WORDS):
                        accent = ACCENTS[generator.integers(len(ACCENTS))]
                        voice = f"{accent}+{variants[(take + digit) % len(variants)]}"
                        rate, pitch = int(generator.integers(120, 221)), int(generator.integers(25, 76))
                        clip = speak(word, voice, rate, pitch)
                        table.writerow((split, name, start, start + len(clip), digit, voice, rate, pitch))
                        clips.append(clip)
                        start += len(clip)
                soundfile.write(FOLDER / name, torch.cat(clips).numpy(), SAMPLE_RATE, subtype="PCM_16", compression_level=1.0)


def make_images() -> None:
    digits = load_digits()
    order = np.random.default_rng(20261122).permutation(len(digits.target))
    split = np.repeat(np.arange(3), list(IMAGES_IN.values()))  # 0 train, 1 val, 2 test
    images = digits.images[order].astype(np.uint8)
    np.savez_compressed(FOLDER / "digits.npz", images=images, digits=digits.target[order].astype(np.uint8), split=split.astype(np.uint8))


if __name__ == "__main__":
    make_images()
    make_speech()
