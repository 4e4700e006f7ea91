"""Folders of sounds: the name of a folder is the class of the sounds in it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from perceiver.data.audio.sounds import LIMITS, Recording, SoundForm, Sounds
from perceiver.data.class_folders import files_in, folders_in
from perceiver.data.limits import Limits
from perceiver.data.source import SPLITS, Split, not_found

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")


class AudioFolder(Sounds):
    """Sounds in one folder a class, of your own or of any public dataset in this form.

    The folders lie side by side (`root/cat/1.wav`), or below one of their split (`root/train/cat/1.wav`): that is how it is read when no
    other folder than `train`, `val` and `test` lies in the root. Classes are numbered in the order of their sorted names.

    Side by side, a sound's split follows from a keyed hash of its path below the root. So sounds that are added later leave the split of the
    others as it is; one that is renamed may change sides.

    A long sound is cropped, at random in training and to its middle otherwise; a short one keeps its length. Hidden files, and files beside
    the folders of the classes, are not looked at.

    Args:
        root: the folder; it alone may be a symbolic link.
        sample_rate: Hz, to which sounds are resampled.
        max_seconds: the longest sound; what the adapter takes.
        entry: the sound's name in a row.
        channels: to which sounds are mixed: 1 takes mono, stereo and 5.1; 2 takes mono and 5.1, too; others their own number and mono.
        limits: what a file may claim before it is decoded.
        val_share: of the sounds, when the folders lie side by side.
        test_share: likewise.

    Raises:
        ValueError: when a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        sample_rate: int,
        max_seconds: float,
        entry: str = "audio",
        channels: int = 1,
        limits: Limits = LIMITS,
        val_share: float = 0.1,
        test_share: float = 0.1,
    ) -> None:
        super().__init__(SoundForm(sample_rate, max_seconds, channels, limits), entry=entry, val_share=val_share, test_share=test_share)
        self.root = Path(root)

    @property
    def place(self) -> Path:
        return self.root

    def found(self) -> Iterable[tuple[Recording, str, Split]]:
        if not self.root.is_dir():
            raise not_found("the folder of sounds", [self.root])
        names = folders_in(self.root)
        splits: Sequence[Split] = [split for split in SPLITS if split in names]
        if names and len(splits) == len(names):
            return [(recording, label, split) for split in splits for recording, label in self.below(f"{split}/")]
        return [(recording, label, self.drawn(recording.name)) for recording, label in self.below("")]

    def below(self, prefix: str) -> list[tuple[Recording, str]]:
        """Recordings of the class folders in one folder.

        Raises:
            ValueError: when there is no class, a class is empty, or it holds something else than sounds.
        """
        names = folders_in(self.root / prefix)
        if not names:
            raise ValueError(f"{self.root / prefix} holds no folder: put the sounds into one folder a class")
        found = []
        for name in names:
            files = files_in(self.root / prefix / name, "sound", SUFFIXES)
            found += [(Recording(self.root / prefix / name / file, f"{prefix}{name}/{file}"), name) for file in files]
        return found
