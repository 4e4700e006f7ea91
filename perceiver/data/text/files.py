"""Text files as bytes, for language models: no decoding, so any file will do, and a line may be as long as it likes.

Each file is cut into three stretches, the first for training, then validation, then the test, and each stretch into windows.
A window may start in the middle of a word, or of a character. Letters: l bytes of a window.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perceiver.data.download import fetch
from perceiver.data.rows import BadSample, Row, Rows
from perceiver.data.source import Source, Split, find_folder, not_found, places
from perceiver.data.splits import check_shares
from perceiver.data.text.masking import Masking
from perceiver.tokenizer import NUM_SPECIALS

SHAKESPEARE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

# From a stretch's bytes, a window's bytes and a window's number: the first place that it may start at, and the one behind the last.
Starts = Callable[[int, int, int], tuple[int, int]]


def one_after_another(size: int, length: int, window: int) -> tuple[int, int]:
    """Windows that hold each byte once; the last one is what is left over."""
    return window * length, window * length + 1


def anywhere(size: int, length: int, window: int) -> tuple[int, int]:
    """Windows of full length that start at any byte, each about equally likely: every window has its own share of the places."""
    number, count = max(1, size - length + 1), -(-size // length)
    return window * number // count, (window + 1) * number // count


@dataclass(frozen=True)
class Stretch:
    """The part of a file that belongs to a split.

    Args:
        file: where it is.
        name: of the file, within the dataset.
        start: first byte.
        stop: the byte behind the last.
    """

    file: Path
    name: str
    start: int
    stop: int


class Windows(Rows):
    """Windows of some stretches; none reaches beyond its own. As many as it takes to hold each byte once.

    A file is opened for each window and closed again: nothing is held in memory, and there is nothing to hand to a data worker.

    Args:
        stretches: with at least one byte each.
        entry: what the row calls the ids.
        length: bytes of a window; a stretch that has fewer is a window of its own.
        starts: where windows start.
        mask: what hides bytes; then `<entry>_target` holds the ids that are hidden.
    """

    def __init__(self, stretches: Sequence[Stretch], entry: str, length: int, starts: Starts, mask: Masking | None) -> None:
        self.stretches = stretches
        self.entry = entry
        self.length = length
        self.starts = starts
        self.mask = mask
        self._until = np.cumsum([-(-(stretch.stop - stretch.start) // length) for stretch in stretches], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._until[-1])

    def name(self, index: int) -> str:
        """The file, and the first byte that the window may start at."""
        stretch, first, _ = self._place(index)
        return f"{stretch.name} from byte {first}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """The ids (l,) of a window, int64, and where bytes are hidden the targets (l,).

        Raises:
            BadSample: when the bytes are not there any more.
        """
        stretch, first, behind = self._place(index)
        start = int(draw.integers(first, behind))
        ids = np.frombuffer(self._read(index, stretch.file, start, min(start + self.length, stretch.stop)), np.uint8) + np.int64(NUM_SPECIALS)
        if self.mask is None:
            return {self.entry: torch.from_numpy(ids)}
        masked, target = self.mask(ids, draw)
        return {self.entry: torch.from_numpy(masked), f"{self.entry}_target": torch.from_numpy(target)}

    def _place(self, index: int) -> tuple[Stretch, int, int]:
        """A window's stretch, and from which byte on to before which byte of the file it may start."""
        number = int(np.searchsorted(self._until, index, side="right"))
        stretch = self.stretches[number]
        window = index - (int(self._until[number - 1]) if number else 0)
        first, behind = self.starts(stretch.stop - stretch.start, self.length, window)
        return stretch, stretch.start + first, stretch.start + behind

    def _read(self, index: int, file: Path, start: int, stop: int) -> bytes:
        try:
            with open(file, "rb") as opened:
                opened.seek(start)
                data = opened.read(stop - start)
        except OSError as error:
            raise BadSample(self.name(index), f"cannot be read: {error.strerror}") from error
        if len(data) < stop - start:
            raise BadSample(self.name(index), f"only {len(data)} of {stop - start} bytes are there: the file was changed while it was in use")
        return data


class TextFiles(Source):
    """Windows of all files that match a pattern, for masked language models.

    Of each file the first bytes are for training (90 % of them by default), the next ones for validation, the last ones for the test;
    no window reaches from one into another. Training windows start at any byte, another one in each pass, and are all of the full
    length where the file has that much; those of validation and test follow one after another and hold each byte once.

    Args:
        root: the folder.
        files: pattern of the files within it; `**/` stands for any number of folders, but enters none that is a symbolic link.
        entry: what rows call the ids; with a mask, what is asked is `<entry>_target`.
        length: bytes of a window, at most what the adapter takes.
        mask: what hides bytes, see `perceiver.data.text.masking`. Without one there is nothing to learn.
        val_share: share of each file that is for validation.
        test_share: share of each file that is for the test.

    Raises:
        ValueError: when the pattern leads out of the folder, or a number is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        files: str = "**/*.txt",
        *,
        entry: str = "text",
        length: int = 2048,
        mask: Masking | None = None,
        val_share: float = 0.05,
        test_share: float = 0.05,
    ) -> None:
        if not files or Path(files).is_absolute() or ".." in Path(files).parts:
            raise ValueError(f"files={files!r}: give a pattern within the folder {root}, such as '**/*.txt'")
        if length < 1:
            raise ValueError(f"length={length}: give at least 1 byte")
        check_shares(val_share, test_share)
        self.root = Path(root)
        self.files = files
        self.length = length
        self.mask = mask
        self.val_share = val_share
        self.test_share = test_share
        self.entries = (entry,)
        self.ragged = (entry,) if mask is None else (entry, f"{entry}_target")

    @property
    def task(self) -> Mapping[str, Any]:
        """The bytes behind the mask.

        Raises:
            ValueError: when there is no mask.
        """
        if self.mask is None:
            raise ValueError(f"{type(self).__name__} has nothing to learn: give it a mask, such as perceiver.data.text.masking.WholeWords")
        return {"task": "masked_bytes", "modality": self.entries[0]}

    def rows(self, split: Split) -> Windows:
        """The windows of a split.

        Raises:
            FileNotFoundError: when no file matches.
            ValueError: when a file is empty, or is reached through a symbolic link, or the split has no byte.
        """
        stretches = [self._stretch(file, name, split) for file, name in self._found()]
        stretches = [stretch for stretch in stretches if stretch.start < stretch.stop]
        if not stretches:
            raise ValueError(
                f"the {split} split of {self.files} in {self._folder()} has no byte: give longer files, or another val_share or test_share"
            )
        return Windows(stretches, self.entries[0], self.length, anywhere if split == "train" else one_after_another, self.mask)

    def _folder(self) -> Path:
        """Where the files are.

        Raises:
            FileNotFoundError: when they are not there.
        """
        if not self.root.is_dir():
            raise not_found(f"text files {self.files}", [self.root])
        return self.root

    def _found(self) -> list[tuple[Path, str]]:
        """The files, and their names within the folder, in the order of the names."""
        folder = self._folder()
        found = sorted((file.relative_to(folder).as_posix(), file) for file in folder.glob(self.files) if file.is_file() or file.is_symlink())
        if not found:
            raise not_found(f"text files {self.files}", [folder])
        real = folder.resolve()
        for name, file in found:
            if file.resolve() != real / name:
                raise ValueError(f"{file} is reached through a symbolic link: put the file itself there, or give a pattern that leaves it out")
            if not file.stat().st_size:
                raise ValueError(f"{file} is empty: delete it, or give a pattern that leaves it out")
        return [(file, name) for name, file in found]

    def _stretch(self, file: Path, name: str, split: Split) -> Stretch:
        size = file.stat().st_size
        val, test = round(size * (1 - self.val_share - self.test_share)), round(size * (1 - self.test_share))
        start, stop = {"train": (0, val), "val": (val, test), "test": (test, size)}[split]
        return Stretch(file, name, start, stop)


class TinyShakespeare(TextFiles):
    """1,115,394 bytes of Shakespeare's plays, as Karpathy put them together for char-rnn.

    The first 90 % are for training, the next 5 % for validation, the last 5 % for the test.

    Args:
        root: the folder with `input.txt`; the usual places when not given, see `perceiver.data.source.PLACES`.
        entry: what rows call the ids; with a mask, what is asked is `<entry>_target`.
        length: bytes of a window, at most what the adapter takes.
        mask: what hides bytes. Without one there is nothing to learn.
    """

    def __init__(self, root: str | Path | None = None, *, entry: str = "text", length: int = 2048, mask: Masking | None = None) -> None:
        super().__init__(places("tinyshakespeare", root)[0], "input.txt", entry=entry, length=length, mask=mask)
        self.given = root

    def prepare(self) -> None:
        """Fetches the file, or verifies the one that is there."""
        folder = find_folder("tinyshakespeare", self.given, [self.files]) or self.root
        fetch("tinyshakespeare", [SHAKESPEARE], folder / self.files, SHAKESPEARE_SHA256)

    def _folder(self) -> Path:
        folder = find_folder("tinyshakespeare", self.given, [self.files])
        if folder is None:
            raise not_found(f"tinyshakespeare: {self.files}", places("tinyshakespeare", self.given))
        return folder
