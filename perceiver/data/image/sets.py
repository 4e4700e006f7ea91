"""Well-known sets of pictures, small enough to lie in memory: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100.

Letters: n pictures, c colour channels, y x rows and columns of pixels.
"""

import gzip
import hashlib
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from torch import Tensor

from perceiver.data.permutation import key_of, permute
from perceiver.data.rows import Row, Rows
from perceiver.data.source import Source, Split, not_found, places

Pictures = tuple[UInt8[Tensor, "n c y x"], Int64[Tensor, " n"]]  # and the number of each one's class
MOST_BYTES = 50_000_000  # of an unpacked file: the largest official one has 47,040,016


class PicturesInMemory(Rows):
    """Some rows of a set of pictures; forked workers share its memory.

    Args:
        origin: what comes before the official row number in a row's name.
        pictures: all pictures and classes of the official set.
        numbers: official row numbers of these rows.
        entry: the picture's name in a row.
    """

    def __init__(self, origin: str, pictures: Pictures, numbers: NDArray[np.int64], entry: str) -> None:
        self.origin = origin
        self.images, self.targets = pictures
        self.numbers = numbers
        self.entry = entry

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, index: int) -> str:
        """Dataset, official set and official row number, as in `mnist/train/123`."""
        return f"{self.origin}/{self.numbers[index]}"

    def row(self, index: int, draw: np.random.Generator) -> Row:
        """A picture, (c, y, x) of bytes, which is a view of the set, and its class."""
        number = int(self.numbers[index])
        return {self.entry: self.images[number], "target": int(self.targets[number])}


class OfficialPictures(Source):
    """A dataset of pictures with an official training and test set, read through torchvision.

    Validation rows are taken out of the training set by a keyed shuffle (`perceiver.data.permutation`, key 0), which depends on nothing
    but the number of training rows: more validation rows are the same ones and further ones.

    Args:
        root: the folder of the files; where not given, `data/<name>` and the other places of `perceiver.data.source` are looked at.
        entry: the picture's name in a row.
        val_rows: how many training rows are for validation.

    Raises:
        ValueError: when the number of validation rows is negative.
    """

    folder: str
    title: str  # torchvision's name

    def __init__(self, root: str | Path | None = None, *, entry: str = "image", val_rows: int = 5_000) -> None:
        if val_rows < 0:
            raise ValueError(f"val_rows={val_rows}: give 0 or more")
        self.root = root
        self.entries = (entry,)
        self.val_rows = val_rows
        self.official: dict[bool, Pictures] = {}  # by whether it is the training set, once read

    def prepare(self) -> None:
        """Downloads the official files into the first place, where they are not there yet, and verifies them."""
        if self.find() is not None:
            return
        try:
            self.torchvision(root=str(self.places[0]), download=True)
        except (OSError, RuntimeError) as error:  # the latter is torchvision's word for a mirror that fails and for a wrong checksum
            raise self.missing(f"could not fetch it: {' '.join(str(error).split())}") from error

    def rows(self, split: Split) -> PicturesInMemory:
        """The rows of a split; the official set is read and verified once."""
        train = split != "test"
        if train not in self.official:
            folder = self.find()
            if folder is None:
                raise self.missing("prepare() fetches it")
            self.official[train] = self.read(folder, train)
        pictures = self.official[train]
        numbers = np.arange(len(pictures[1]), dtype=np.int64)
        if train:
            numbers = self.drawn(numbers, split)
        return PicturesInMemory(f"{self.folder}/{'train' if train else 'test'}", pictures, numbers, self.entries[0])

    def drawn(self, numbers: NDArray[np.int64], split: Split) -> NDArray[np.int64]:
        """Those of the training rows that a split gets."""
        if (split == "val" and self.val_rows == 0) or self.val_rows >= len(numbers):
            raise ValueError(f"val_rows={self.val_rows} of {len(numbers)} training rows leave nothing for the split {split!r}: change val_rows")
        val = permute(numbers[: self.val_rows], len(numbers), key_of(0))
        return np.sort(val) if split == "val" else np.setdiff1d(numbers, val)

    @property
    def places(self) -> list[Path]:
        """Folders that it is looked for in."""
        return places(self.folder, self.root)

    @property
    def torchvision(self) -> Any:
        """Torchvision's dataset, imported only when it is needed."""
        return getattr(import_module("torchvision.datasets"), self.title)

    def missing(self, why: str) -> FileNotFoundError:
        """The error of files that are not there."""
        return not_found(f"{self.title} ({', '.join(self.files)})", self.places, why)

    @property
    @abstractmethod
    def files(self) -> Sequence[str]:
        """What a folder must hold, for messages."""

    @abstractmethod
    def find(self) -> Path | None:
        """The first folder that holds all files."""

    @abstractmethod
    def read(self, folder: Path, train: bool) -> Pictures:
        """The training or the test set.

        Raises:
            ValueError: when a file is not the official one.
        """


class MNIST(OfficialPictures):
    """Handwritten digits in grey, 28 x 28: 60,000 to train on, 10,000 to test (LeCun, Cortes and Burges, 1998).

    Read from `*.gz`, or unpacked, in the folder itself or in torchvision's `MNIST/raw` below it. What counts is the unpacked content.
    """

    folder = "mnist"
    title = "MNIST"
    classes = tuple("0123456789")
    md5: Mapping[str, str] = {  # of the unpacked content
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }

    @property
    def files(self) -> Sequence[str]:
        return [f"{name}.gz" for name in self.md5]

    def find(self) -> Path | None:
        folders = (folder for place in self.places for folder in (place, place / self.title / "raw"))
        return next((folder for folder in folders if all(file_of(folder, name) is not None for name in self.md5)), None)

    def read(self, folder: Path, train: bool) -> Pictures:
        which = "train" if train else "t10k"
        images = torch.frombuffer(self.unpacked(folder, f"{which}-images-idx3-ubyte"), dtype=torch.uint8, offset=16)
        labels = torch.frombuffer(self.unpacked(folder, f"{which}-labels-idx1-ubyte"), dtype=torch.uint8, offset=8)
        return images.view(-1, 1, 28, 28), labels.long()

    def unpacked(self, folder: Path, name: str) -> bytearray:
        """A file's verified content: a header of 16 bytes (pictures) or 8 (classes), then the values."""
        file = file_of(folder, name)
        assert file is not None  # or the folder would not have been found
        try:
            with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as opened:
                content = bytearray(opened.read(MOST_BYTES))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{file} is cut off or garbled ({error}): delete it, and it is fetched again") from error
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != self.md5[name]:
            raise ValueError(
                f"{file} is not the official file: MD5 of its content {found}, expected {self.md5[name]}. Delete it, and it is fetched again"
            )
        return content


def file_of(folder: Path, name: str) -> Path | None:
    """A file in a folder, packed or not; unpacked ones are read faster."""
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


class FashionMNIST(MNIST):
    """Articles of clothing in grey, 28 x 28: 60,000 to train on, 10,000 to test (Xiao, Rasul and Vollgraf, 2017).

    Read like MNIST: `*.gz`, or unpacked, in the folder itself or in torchvision's `FashionMNIST/raw` below it.
    """

    folder = "fashion_mnist"
    title = "FashionMNIST"
    classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    md5 = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }


class CIFAR10(OfficialPictures):
    """Small photographs in colour, 32 x 32, of 10 classes: 50,000 to train on, 10,000 to test (Krizhevsky, 2009).

    Read from the unpacked batches of the Python version (`cifar-10-batches-py`); torchvision compares each with its checksum first.
    """

    folder = "cifar"
    title = "CIFAR10"
    classes: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    @property
    def files(self) -> Sequence[str]:
        batches = [name for name, _ in (*self.torchvision.train_list, *self.torchvision.test_list)]
        return [f"{self.torchvision.base_folder}/{name}" for name in (*batches, self.torchvision.meta["filename"])]

    def find(self) -> Path | None:
        return next((place for place in self.places if all((place / name).is_file() for name in self.files)), None)

    def read(self, folder: Path, train: bool) -> Pictures:
        try:
            official = self.torchvision(root=str(folder), train=train)
        except RuntimeError as error:  # torchvision's word for a wrong checksum
            raise ValueError(
                f"{folder / self.torchvision.base_folder} has a file that is not the official one: delete the folder, and it is fetched again"
            ) from error
        return torch.from_numpy(official.data).permute(0, 3, 1, 2), torch.tensor(official.targets)


class CIFAR100(CIFAR10):
    """Small photographs in colour, 32 x 32, of 100 classes: 50,000 to train on, 10,000 to test (Krizhevsky, 2009).

    Read like CIFAR-10, from `cifar-100-python`. The classes are the fine ones.
    """

    title = "CIFAR100"
    classes = tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle
        chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house
        kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
        otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew
        skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
        trout tulip turtle wardrobe whale willow_tree wolf woman worm
        """.split()
    )
