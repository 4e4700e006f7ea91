"""Well-known sets of spoken words: Free Spoken Digits, and Speech Commands.

Letters: s samples.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int16
from torch import Tensor

from perceiver.data.archive import download, unpack
from perceiver.data.audio.file import read_sound
from perceiver.data.audio.sounds import Recording, SoundForm, Sounds
from perceiver.data.class_folders import folders_in
from perceiver.data.download import fetch
from perceiver.data.limits import Limits
from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split, not_found, places
from perceiver.data.table import check_there


class Digits(NamedTuple):
    """All recordings of a set of spoken digits, one behind the other.

    Args:
        wave: their samples; 32,768 is full scale.
        ends: the place behind each one's last sample.
        names: their files', without `.wav`: digit, speaker and index.
    """

    wave: Int16[Tensor, " s"]
    ends: Sequence[int]
    names: Sequence[str]


class SpokenDigits(Rows):
    """Some of the recordings, in memory; forked workers share it.

    Args:
        digits: all recordings.
        numbers: which of them these are.
        entry: the sound's name in a row.
    """

    def __init__(self, digits: Digits, numbers: Sequence[int], entry: str) -> None:
        self.digits = digits
        self.numbers = numbers
        self.entry = entry

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        """The file below the dataset's folder."""
        return f"recordings/{self.digits.names[self.numbers[index]]}.wav"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The sound, (1, s), and the digit."""
        number = self.numbers[index]
        start = self.digits.ends[number - 1] if number else 0
        wave = self.digits.wave[start : self.digits.ends[number]]
        return {self.entry: wave.float().div_(32_768)[None], "target": int(self.digits.names[number][0])}


class FreeSpokenDigits(Source):
    """Digits in English, 8 kHz, mono: 50 recordings of each by each of six speakers, 3,000 in all, of 0.14 to 2.28 s (Jackson et al., 2018).

    The official test set are the recordings with index 0 to 4 (300). Those with 5 to 7 are for validation here (180), the rest for training
    (2,520). All speakers are in all splits; with `held_out_speaker`, one is in the test alone: all 500 recordings. Then validation has 150
    of the others, and training 2,350.

    They are looked for in `recordings`, and in an archive `fsdd.tar.xz`, in the dataset's folder or beside it; then fetched from GitHub, at
    version 1.0.10. Whatever was found must have the content of the official recordings.

    Args:
        root: the dataset's folder; `data/fsdd` and the other places of `perceiver.data.source` when not given.
        entry: the sound's name in a row.
        held_out_speaker: george, jackson, lucas, nicolas, theo or yweweler.

    Raises:
        ValueError: when there is no such speaker.
    """

    classes = tuple("0123456789")
    speakers = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    sample_rate = 8_000  # Hz
    url = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
    sha256 = "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"  # of what `LC_ALL=C sha256sum *.wav` prints

    def __init__(self, root: str | Path | None = None, *, entry: str = "audio", held_out_speaker: str | None = None) -> None:
        if held_out_speaker is not None and held_out_speaker not in self.speakers:
            raise ValueError(f"held_out_speaker={held_out_speaker!r}: give one of {', '.join(self.speakers)}")
        self.root = root
        self.entries = self.ragged = (entry,)
        self.held_out_speaker = held_out_speaker

    def prepare(self) -> None:
        """Unpacks the archive, or fetches it, where the recordings are not there yet."""
        if self.find() is not None:
            return
        folder = self.places[0] / "recordings"
        for archive in (near / "fsdd.tar.xz" for place in self.places for near in (place, place.parent)):
            if archive.is_file():
                unpack(archive, "*/recordings", folder, self.check)
                return
        download("the Free Spoken Digit Dataset", self.url, "*/recordings", folder, self.check)

    def rows(self, split: Split) -> SpokenDigits:
        """The recordings of a split; all are decoded once, and kept."""
        return SpokenDigits(self.digits, [n for n, name in enumerate(self.digits.names) if self.split(name) == split], self.entries[0])

    def split(self, name: str) -> Split:
        """The split of a recording."""
        _, speaker, index = name.split("_")
        if speaker == self.held_out_speaker:
            return "test"
        if int(index) < 5 and self.held_out_speaker is None:
            return "test"
        return "val" if 5 <= int(index) < 8 else "train"

    @property
    def places(self) -> list[Path]:
        """Folders that it is looked for in."""
        return places("fsdd", self.root)

    def find(self) -> Path | None:
        """The first folder of recordings."""
        return next((place / "recordings" for place in self.places if (place / "recordings").is_dir()), None)

    def check(self, folder: Path) -> None:
        """Compares the recordings in a folder with the official ones.

        Raises:
            ValueError: when they are others, or some are missing.
        """
        sums = ((file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(folder.glob("*.wav")))
        found = hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in sums).encode()).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"{folder} does not hold the official recordings: SHA-256 of their sums {found}, expected {self.sha256}. "
                "Delete it, and it is fetched again"
            )

    @cached_property
    def digits(self) -> Digits:
        """All recordings, verified and decoded.

        Raises:
            FileNotFoundError: when they are not there.
            ValueError: when they are not the official ones.
        """
        folder = self.find()
        if folder is None:
            raise not_found("the Free Spoken Digit Dataset (recordings)", self.places, "prepare() unpacks or fetches it")
        self.check(folder)
        files = sorted(folder.glob("*.wav"))
        waves = [read_sound(file, file.name, sample_rate=self.sample_rate, channels=1, limits=Limits())[0].mul(32_768).short() for file in files]
        return Digits(torch.cat(waves), np.cumsum([len(wave) for wave in waves]).tolist(), [file.stem for file in files])


class SpeechCommands(Sounds):
    """Single words in English, 16 kHz, mono, up to a second: 105,829 recordings of 35 words, version 0.02 (Warden, 2018).

    The official lists say which recordings are for validation (9,981) and for the test (11,005); the rest is for training (84,843). No
    speaker is in two splits. The recordings of noise are left out.

    Looked for in the dataset's folder, in `speech_commands_v0.02` below it, and in torchaudio's `SpeechCommands/speech_commands_v0.02`; else
    the archive (2.3 GB) is fetched, verified by its checksum, and unpacked.

    Args:
        root: the dataset's folder; `data/speech_commands` and the other places of `perceiver.data.source` when not given.
        entry: the sound's name in a row.
        sample_rate: Hz, to which sounds are resampled.
    """

    urls = (
        "https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    )
    sha256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"  # of the archive, as torchaudio has it
    lists: Mapping[Split, str] = {"val": "validation_list.txt", "test": "testing_list.txt"}
    num_words = 35

    def __init__(self, root: str | Path | None = None, *, entry: str = "audio", sample_rate: int = 16_000) -> None:
        super().__init__(SoundForm(sample_rate, max_seconds=1.0), entry=entry)
        self.root = root

    @property
    def task(self) -> Mapping[str, Any]:
        """35 classes, whether the files are there yet or not."""
        return {"task": "classification", "num_classes": self.num_words}

    def prepare(self) -> None:
        """Fetches and unpacks the archive, where the recordings are not there yet."""
        if self.find() is not None:
            return
        archive = self.places[0] / "speech_commands_v0.02.tar.gz"
        fetch("Speech Commands", self.urls, archive, self.sha256)
        unpack(archive, ".", self.places[0] / "speech_commands_v0.02", lambda folder: None)

    @property
    def places(self) -> list[Path]:
        """Folders that it is looked for in."""
        return places("speech_commands", self.root)

    def find(self) -> Path | None:
        """The first folder with the official lists."""
        below = ("", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02")
        folders = (place / name for place in self.places for name in below)
        return next((folder for folder in folders if all((folder / name).is_file() for name in self.lists.values())), None)

    @property
    def place(self) -> Path:
        folder = self.find()
        if folder is None:
            raise not_found(f"Speech Commands ({', '.join(self.lists.values())})", self.places, "prepare() fetches it")
        return folder

    def found(self) -> Iterable[tuple[Recording, str, Split]]:
        folder = self.place
        words = [name for name in folders_in(folder) if not name.startswith("_")]
        if len(words) != self.num_words:
            raise ValueError(f"{folder} has the folders of {len(words)} words, and there should be {self.num_words}: unpack the archive again")
        listed = {path: split for split, name in self.lists.items() for path in (folder / name).read_text(encoding="utf-8").split()}
        there = [f"{word}/{file.name}" for word in words for file in sorted((folder / word).glob("*.wav"))]
        check_there(folder / path for path in sorted(listed.keys() - set(there)))
        return [(Recording(folder / path, path), path.split("/")[0], listed.get(path, "train")) for path in there]
