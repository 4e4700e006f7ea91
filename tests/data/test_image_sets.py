"""Official sets of pictures: read where they lie, whole and verified, or downloaded, or refused."""

import gzip
import hashlib
import pickle
import struct
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path
from timeit import repeat

import numpy as np
import pytest
import torch
import torchvision
from builders import without_shape_checks

from perceiver.data.image.sets import CIFAR10, CIFAR100, MNIST, FashionMNIST
from perceiver.data.image.transforms import pixel_statistics
from perceiver.data.source import SPLITS

ROOT = Path(__file__).parent.parent.parent
REAL = ROOT.parent / "shared/data/mnist"

DRAW = np.random.default_rng(0)
NOISE = np.random.default_rng(7)


def md5_of(content):
    return hashlib.md5(content).hexdigest()


def gathered(rows):
    """All pictures and classes."""
    found = [rows.row(i, DRAW) for i in range(len(rows))]
    return torch.stack([row["image"] for row in found]), [row["target"] for row in found]


def numbers(rows):
    return [int(rows.name(i).split("/")[-1]) for i in range(len(rows))]


# 17 training and 5 test pictures stand for the 60,000 and 10,000; the last tests read the real ones.


@pytest.fixture
def idx(monkeypatch):
    """The content of four files in the form of MNIST, whose sums pass for the official ones."""
    content = {}
    for which, count in (("train", 17), ("t10k", 5)):
        pixels, classes = (NOISE.integers(256, size=(count, 28, 28), dtype=np.uint8), NOISE.integers(10, size=count, dtype=np.uint8))
        content[f"{which}-images-idx3-ubyte"] = struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes()
        content[f"{which}-labels-idx1-ubyte"] = struct.pack(">II", 2049, count) + classes.tobytes()
    monkeypatch.setattr(MNIST, "md5", {name: md5_of(whole) for name, whole in content.items()})
    return content


def write_idx(folder, content, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, whole in content.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(whole))
        else:
            (folder / name).write_bytes(whole)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_mnist_is_read_where_it_lies_as_torchvision_reads_it_and_nothing_is_written(tmp_path, idx, packed, below):
    write_idx(tmp_path / "here" / below, idx, packed)
    write_idx(tmp_path / "there/MNIST/raw", idx, packed=False)
    before = sorted((tmp_path / "here").rglob("*"))
    source = MNIST(tmp_path / "here", val_rows=3)
    source.prepare()
    for train in (True, False):
        theirs = torchvision.datasets.MNIST(tmp_path / "there", train=train)
        for rows in (source.rows("train"), source.rows("val")) if train else (source.rows("test"),):
            images, targets = gathered(rows)
            assert images.dtype == torch.uint8 and torch.equal(images[:, 0], theirs.data[numbers(rows)])
            assert targets == theirs.targets[numbers(rows)].tolist()
    assert sorted((tmp_path / "here").rglob("*")) == before


def test_train_and_val_are_a_partition_of_the_official_training_set_and_more_val_rows_keep_the_first(tmp_path, idx):
    write_idx(tmp_path, idx)
    for few, many in ((1, 2), (3, 11), (11, 16)):
        small, large = (MNIST(tmp_path, val_rows=count) for count in (few, many))
        assert len(small.rows("val")) == few and set(numbers(small.rows("val"))) < set(numbers(large.rows("val")))
        assert sorted(numbers(small.rows("train")) + numbers(small.rows("val"))) == list(range(17))
        assert numbers(small.rows("test")) == list(range(5))
    assert small.rows("val").name(0).startswith("mnist/train/") and small.rows("test").name(2) == "mnist/test/2"


def test_no_validation_rows_is_a_choice_but_no_training_rows_are_not(tmp_path, idx):
    write_idx(tmp_path, idx)
    assert len(MNIST(tmp_path, val_rows=0).rows("train")) == 17
    with pytest.raises(ValueError, match="val_rows=0 of 17 .* 'val'"):
        MNIST(tmp_path, val_rows=0).rows("val")
    with pytest.raises(ValueError, match="val_rows=17 of 17 .* 'train'"):
        MNIST(tmp_path, val_rows=17).rows("train")
    with pytest.raises(ValueError, match="val_rows=-1"):
        MNIST(tmp_path, val_rows=-1)


def test_a_row_is_a_view_of_memory_that_train_and_val_share(tmp_path, idx):
    write_idx(tmp_path, idx)
    source = MNIST(tmp_path, val_rows=3)
    train, val = source.rows("train"), source.rows("val")
    assert train.row(5, DRAW)["image"].untyped_storage().data_ptr() == val.row(1, DRAW)["image"].untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"\xff\xfe"),
        lambda packed: packed[:-20],
        lambda packed: packed[:100] + b"garbled" + packed[107:],
        lambda packed: b"no gzip at all",
        lambda packed: b"",
    ],
    ids=["other content", "cut off", "garbled", "not packed", "empty"],
)
def test_a_file_that_is_not_the_official_one_is_refused_by_its_name(tmp_path, idx, spoil):
    write_idx(tmp_path, idx)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match=rf"{file} is .*[Dd]elete it"):
        MNIST(tmp_path, val_rows=3).rows("train")
    assert len(MNIST(tmp_path, val_rows=3).rows("test")) == 5


@pytest.fixture
def downloads_from_files(monkeypatch):
    """Lets torchvision download from file addresses, whose answers lack the length that its progress bar asks for."""
    original = urllib.request.urlopen

    def urlopen(request):
        response = original(request)
        response.length = None
        return response

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def offer(monkeypatch, folder, content, lie=False):
    """Makes a folder torchvision's only mirror."""
    write_idx(folder, content)
    sums = [(file.name, "0" * 32 if lie else md5_of(file.read_bytes())) for file in sorted(folder.glob("*.gz"))]
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{folder.as_uri()}/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)


def test_what_is_not_there_is_downloaded_into_the_first_place(tmp_path, idx, monkeypatch, downloads_from_files):
    offer(monkeypatch, tmp_path / "mirror", idx)
    monkeypatch.chdir(tmp_path)
    source = MNIST(val_rows=3)
    with pytest.raises(FileNotFoundError, match=rf"MNIST .*not found; looked in {tmp_path}/data/mnist, .*prepare\(\) fetches it"):
        source.rows("train")
    source.prepare()
    assert len(source.rows("train")) == 14 and {file.parts[0] for file in Path("data").rglob("*.gz") for file in [file.relative_to("data")]} == {
        "mnist"
    }
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [])
    MNIST(val_rows=3).prepare()  # nothing to fetch any more


@pytest.mark.parametrize("reason", ["no mirror answers", "wrong checksum", "no place to write"])
def test_a_failed_download_says_where_it_looked_and_where_files_can_be_put(tmp_path, idx, monkeypatch, downloads_from_files, reason):
    offer(monkeypatch, tmp_path / "mirror", idx, lie=reason == "wrong checksum")
    if reason == "no mirror answers":
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"{(tmp_path / 'nowhere').as_uri()}/"])
    if reason == "no place to write":
        (tmp_path / "mine").write_text("a file where a folder should be")
    with pytest.raises(FileNotFoundError) as caught:
        MNIST(tmp_path / "mine").prepare()
    message = str(caught.value)
    assert "\n" not in message and "train-images-idx3-ubyte.gz" in message
    assert f"looked in {tmp_path}/mine; could not fetch it: " in message and "Put the files into" in message


@pytest.fixture(params=[CIFAR10, CIFAR100])
def cifar(request, tmp_path, monkeypatch):
    """A folder with batches in the form of CIFAR, whose sums pass for the official ones: 2 of 7 training rows (one for CIFAR-100), 3 test rows."""
    theirs = getattr(torchvision.datasets, request.param.__name__)
    folder = tmp_path / theirs.base_folder
    folder.mkdir()
    key = "labels" if request.param is CIFAR10 else "fine_labels"
    for which, count in (("train_list", 7), ("test_list", 3)):
        sums = []
        for name in [name for name, _ in getattr(theirs, which)][:2]:
            batch = {"data": NOISE.integers(256, size=(count, 3072), dtype=np.uint8), key: NOISE.integers(10, size=count).tolist()}
            (folder / name).write_bytes(pickle.dumps(batch))
            sums.append([name, md5_of((folder / name).read_bytes())])
        monkeypatch.setattr(theirs, which, sums)
    (folder / theirs.meta["filename"]).write_bytes(pickle.dumps({theirs.meta["key"]: list(request.param.classes)}))
    monkeypatch.setattr(theirs, "meta", theirs.meta | {"md5": md5_of((folder / theirs.meta["filename"]).read_bytes())})
    return request.param, tmp_path, theirs


def test_cifar_is_what_torchvision_reads_with_channels_first(cifar):
    ours, root, theirs = cifar
    source = ours(root, val_rows=2)
    for split in SPLITS:
        official = theirs(root, train=split != "test")
        images, targets = gathered(source.rows(split))
        for i, number in enumerate(numbers(source.rows(split))):
            picture, target = official[number]
            assert np.array_equal(images[i].permute(1, 2, 0), np.asarray(picture)) and targets[i] == target
    assert source.rows("train").row(0, DRAW)["image"].is_contiguous() and tuple(official.classes) == ours.classes
    assert source.rows("test").name(1) == "cifar/test/1" and source.task["num_classes"] == len(ours.classes)


def test_a_batch_of_cifar_that_is_not_the_official_one_is_never_unpickled(cifar, monkeypatch):
    ours, root, theirs = cifar
    file = root / theirs.base_folder / theirs.train_list[0][0]
    file.write_bytes(file.read_bytes() + b" ")
    monkeypatch.setattr(pickle, "load", lambda *a, **k: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match=f"{theirs.base_folder} .*not the official one"):
        ours(root, val_rows=2).rows("train")


def test_cifar_is_downloaded_or_says_where_to_put_it(cifar, tmp_path, monkeypatch, downloads_from_files):
    ours, root, theirs = cifar
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(root / theirs.base_folder, theirs.base_folder)
    monkeypatch.setattr(theirs, "url", (tmp_path / "nowhere").as_uri())
    monkeypatch.setattr(theirs, "tgz_md5", md5_of((tmp_path / "all.tar.gz").read_bytes()))
    source = ours(tmp_path / "new", val_rows=2)
    with pytest.raises(FileNotFoundError, match=rf"{theirs.base_folder}/.* not found; looked in {tmp_path}/new; could not fetch it: .*Put the files"):
        source.prepare()
    monkeypatch.setattr(theirs, "url", (tmp_path / "all.tar.gz").as_uri())
    source.prepare()
    assert len(source.rows("test")) == 3


def test_an_archive_of_cifar_that_was_put_there_by_hand_is_unpacked_and_not_fetched(cifar, tmp_path, monkeypatch):
    ours, root, theirs = cifar
    (tmp_path / "new").mkdir()
    with tarfile.open(tmp_path / "new" / theirs.filename, "w:gz") as archive:
        archive.add(root / theirs.base_folder, theirs.base_folder)
    monkeypatch.setattr(theirs, "url", (tmp_path / "nowhere").as_uri())
    monkeypatch.setattr(theirs, "tgz_md5", md5_of((tmp_path / "new" / theirs.filename).read_bytes()))
    source = ours(tmp_path / "new", val_rows=2)
    source.prepare()
    assert len(source.rows("test")) == 3


def test_the_names_of_the_classes_are_the_official_ones():
    assert list(FashionMNIST.classes) == torchvision.datasets.FashionMNIST.classes
    assert [name[0] for name in torchvision.datasets.MNIST.classes] == list(MNIST.classes)
    assert len(CIFAR100.classes) == 100 == len(set(CIFAR100.classes)) and sorted(CIFAR100.classes) == list(CIFAR100.classes)


@pytest.mark.parametrize("source", [MNIST, FashionMNIST, CIFAR10])
def test_the_readme_of_a_set_states_its_checksums_and_its_first_validation_rows(source):
    text = (ROOT / "data" / source.folder / "README.md").read_text()
    assert all(value in text for value in getattr(source, "md5", {}).values())
    count = 50_000 if source is CIFAR10 else 60_000
    val = source(val_rows=5_000).drawn(np.arange(count), "val")
    assert f"{', '.join(str(number) for number in val[:5])}, ..." in text and len(val) == 5_000


def test_importing_the_datasets_does_not_import_torchvision():
    code = "import sys, perceiver.data.image.transforms, perceiver.data.image.sets, perceiver.data.image.folder; print('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "False"


@pytest.fixture(scope="module")
def mnist():
    if not REAL.is_dir():
        pytest.skip("needs MNIST in ../shared/data/mnist")
    return MNIST(REAL)


def test_the_real_mnist_is_whole_and_its_splits_have_every_digit(mnist):
    counts = {split: np.bincount(mnist.rows(split).targets[mnist.rows(split).numbers]) for split in SPLITS}
    assert {split: int(count.sum()) for split, count in counts.items()} == {"train": 55_000, "val": 5_000, "test": 10_000}
    assert all(len(count) == 10 and count.min() > 0.08 * count.sum() for count in counts.values())


def test_the_statistics_of_the_real_mnist_are_those_of_pytorch_and_the_well_known_ones(mnist):
    everything = MNIST(REAL, val_rows=0)
    everything.official = mnist.official  # read once
    with without_shape_checks():
        (mean,), (std,) = pixel_statistics(everything.rows("train"))
    pixels = mnist.rows("train").images.double() / 255
    assert mean == pytest.approx(float(pixels.mean()), rel=1e-9) and std == pytest.approx(float(pixels.std(correction=0)), rel=1e-9)
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)
    assert all(str(round(figure, 4)) in (ROOT / "data/mnist/README.md").read_text() for figure in (mean, std))


def test_a_row_of_mnist_takes_less_than_20_microseconds(mnist):
    rows = mnist.rows("train")
    with without_shape_checks():
        assert min(repeat(lambda: rows.row(31_337, DRAW), number=1_000, repeat=5)) / 1_000 < 20e-6
