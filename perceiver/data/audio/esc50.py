"""ESC-50: sounds of the environment."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perceiver.data.archive import download
from perceiver.data.audio.sounds import Recording, SoundForm, Sounds
from perceiver.data.source import Split, not_found, places
from perceiver.data.table import Line, check_there, inside, read_table, wrong

COLUMNS = ("filename", "fold", "target", "category")


class Clip(NamedTuple):
    """A line of the official table."""

    file: str
    fold: int
    target: int
    category: str


class ESC50(Sounds):
    """Sounds of the environment, 44.1 kHz, mono, 5 s: 2,000 recordings of 50 classes (Piczak, 2015).

    They come in five folds, so that recordings of one origin are in the same one. One is for the test, one for validation, and the others for
    training. Figures are compared by their mean over all five test folds.

    Looked for in the dataset's folder, and in `ESC-50-master` below it; else fetched from GitHub (600 MB). That archive has no published
    checksum: verified are the number of recordings, and that names and table say the same.

    Args:
        root: the dataset's folder; `data/esc50` and the other places of `perceiver.data.source` when not given.
        entry: the sound's name in a row.
        sample_rate: Hz, to which sounds are resampled.
        val_fold: 1 to 5.
        test_fold: another one.

    Raises:
        ValueError: when the folds are the same, or one is not there.
    """

    url = "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.tar.gz"
    num_classes = 50
    num_clips = 2_000

    def __init__(
        self, root: str | Path | None = None, *, entry: str = "audio", sample_rate: int = 44_100, val_fold: int = 4, test_fold: int = 5
    ) -> None:
        if val_fold == test_fold or not {val_fold, test_fold} <= set(range(1, 6)):
            raise ValueError(f"val_fold={val_fold} and test_fold={test_fold}: give two different ones out of 1 to 5")
        super().__init__(SoundForm(sample_rate, max_seconds=5.0), entry=entry)
        self.root = root
        self.split_of_fold: Mapping[int, Split] = {val_fold: "val", test_fold: "test"}

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, by their official numbers."""
        return [category for _, category in sorted({(clip.target, clip.category) for clip in clips_of(self.place)})]

    @property
    def task(self) -> Mapping[str, Any]:
        """50 classes, whether the files are there yet or not."""
        return {"task": "classification", "num_classes": self.num_classes}

    def prepare(self) -> None:
        """Fetches and unpacks the archive, where the recordings are not there yet."""
        if self.find() is None:
            download("ESC-50", self.url, "*", self.places[0] / "ESC-50-master", lambda folder: self.check(folder, clips_of(folder)))

    @property
    def places(self) -> list[Path]:
        """Folders that it is looked for in."""
        return places("esc50", self.root)

    def find(self) -> Path | None:
        """The first folder with the official table."""
        folders = (folder for place in self.places for folder in (place, place / "ESC-50-master"))
        return next((folder for folder in folders if (folder / "meta/esc50.csv").is_file()), None)

    @property
    def place(self) -> Path:
        folder = self.find()
        if folder is None:
            raise not_found("ESC-50 (meta/esc50.csv)", self.places, "prepare() fetches it")
        return folder

    def found(self) -> Iterable[tuple[Recording, str, Split]]:
        folder = self.place
        clips = clips_of(folder)
        self.check(folder, clips)
        return [
            (Recording(folder / "audio" / clip.file, f"audio/{clip.file}"), clip.category, self.split_of_fold.get(clip.fold, "train"))
            for clip in clips
        ]

    def check(self, folder: Path, clips: Sequence[Clip]) -> None:
        """Compares what the table lists with the published counts, and with the files.

        Raises:
            FileNotFoundError: when a file is not there.
            ValueError: when there are more or fewer recordings, or the numbers and names of the classes do not belong together.
        """
        classes, numbers = {clip.category for clip in clips}, {clip.target for clip in clips}
        pairs = {(clip.target, clip.category) for clip in clips}
        found = (len({clip.file for clip in clips}), len(classes))
        if found != (self.num_clips, self.num_classes):
            raise ValueError(
                f"{folder} lists {found[0]} recordings of {found[1]} classes, not {self.num_clips} of {self.num_classes}: unpack it again"
            )
        if len(pairs) != len(classes) or numbers != set(range(len(classes))):
            raise ValueError(f"{folder / 'meta/esc50.csv'} numbers its classes in more than one way: unpack the archive again")
        check_there(folder / "audio" / clip.file for clip in clips)


def clips_of(folder: Path) -> list[Clip]:
    """The lines of the official table.

    Raises:
        ValueError: when a line contradicts the name of its file, which is made of fold, origin, take and class.
    """
    table = folder / "meta/esc50.csv"
    return [clip_of(table, folder, line) for line in read_table(table, required=COLUMNS)]


def clip_of(table: Path, folder: Path, line: Line) -> Clip:
    """One line of the official table."""
    file, fold, target, category = (str(line.cells[column]) for column in COLUMNS)
    parts = file.removesuffix(".wav").split("-")
    if len(parts) != 4 or (parts[0], parts[3]) != (fold, target) or not (fold + target).isdecimal():
        wrong(table, line.number, f"says fold {fold} and class {target} of {file!r}, whose name says otherwise: unpack the archive again")
    inside(folder / "audio", file, f"{table}, line {line.number}")
    return Clip(file, int(fold), int(target), category)


def recording_of(folder: Path, clip: Clip) -> Recording:
    """The file of a line."""
    return Recording(folder / "audio" / clip.file, f"audio/{clip.file}")
