"""Folders of pictures: what they hold, which split it belongs to, and what is refused before any training."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from perceiver.data.image.folder import ImageFolder
from perceiver.data.rows import BadSample
from perceiver.data.source import SPLITS

DRAW = np.random.default_rng(0)
NOISE = np.random.default_rng(7)


def write_folder(root, files):
    """Pictures at the given paths."""
    for path in files:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(NOISE.integers(256, size=(7, 5, 3), dtype=np.uint8)).save(root / path, "PNG")


def folder(root, **options):
    return ImageFolder(root, **{"size": (7, 5), "val_share": 0.0, "test_share": 0.0, **options})


def test_folders_of_splits_are_read_as_they_are(tmp_path):
    write_folder(tmp_path, ["train/cat/2.png", "train/cat/1.png", "train/Ant/1.png", "val/cat/3.png", "test/Ant/9.png", "test/cat/1.png"])
    source = folder(tmp_path)
    found = {split: [(rows.name(i), rows.row(i, DRAW)["target"]) for i in range(len(rows))] for split in SPLITS for rows in [source.rows(split)]}
    assert list(source.classes) == ["Ant", "cat"] and source.task == {"task": "classification", "num_classes": 2}
    assert found["train"] == [("train/Ant/1.png", 0), ("train/cat/1.png", 1), ("train/cat/2.png", 1)]
    assert found["val"] == [("val/cat/3.png", 1)] and found["test"] == [("test/Ant/9.png", 0), ("test/cat/1.png", 1)]


def test_a_class_may_be_called_train(tmp_path):
    write_folder(tmp_path, ["train/1.png", "car/1.png"])
    assert folder(tmp_path).classes == ["car", "train"]


def split_of(source):
    return {rows.name(i): split for split in SPLITS for rows in [source.rows(split)] for i in range(len(rows))}


def test_side_by_side_each_class_is_split_by_its_shares_and_pictures_added_later_move_no_other(tmp_path):
    write_folder(tmp_path, [f"{name}/{i}.png" for name in ("a", "b") for i in range(300)])
    before = split_of(folder(tmp_path, val_share=0.1, test_share=0.3))
    for name in ("a", "b"):
        counts = {split: sum(path.startswith(name) and found == split for path, found in before.items()) for split in SPLITS}
        assert sum(counts.values()) == 300 and abs(counts["val"] - 30) < 21 and abs(counts["test"] - 90) < 32  # four standard deviations
    assert [before[f"a/{i}.png"] for i in range(300)] != [before[f"b/{i}.png"] for i in range(300)]
    write_folder(tmp_path, [*(f"a/new{i}.png" for i in range(50)), "c/1.png", "c/2.png", "c/3.png", "c/4.png", "c/5.png"])
    after = split_of(folder(tmp_path, val_share=0.1, test_share=0.3))
    assert len(after) == 655 and after | before == after


def test_what_is_hidden_or_beside_the_classes_is_not_looked_at_and_the_root_may_be_a_link(tmp_path):
    write_folder(tmp_path / "real", ["cat/1.png", "cat/1.PNG", "dog/1.JPEG"])
    (tmp_path / "real/README.md").write_text("where it is from")
    (tmp_path / "real/cat/.DS_Store").write_text("")
    (tmp_path / "real/.cache").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    rows = folder(tmp_path / "link").rows("train")
    assert [rows.name(i) for i in range(len(rows))] == ["cat/1.PNG", "cat/1.png", "dog/1.JPEG"]


def spoiled(root, how):
    """A good folder with one thing wrong in it."""
    write_folder(root, ["cat/1.png", "dog/1.png"])
    place = root / "cat/2.png"
    match how:
        case "a linked file":
            place.symlink_to(root / "dog/1.png")
        case "a linked folder":
            (root / "bird").symlink_to(root / "dog")
        case "a link to nowhere":
            place.symlink_to(root / "nothing.png")
        case "a pipe":
            os.mkfifo(place)
        case "a folder in a class":
            (root / "cat/more").mkdir()
        case "a text in a class":
            (root / "cat/notes.txt").write_text("nice cats")
        case "an empty class":
            (root / "eel").mkdir()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("a linked file", r"cat/2.png is a symbolic link"),
        ("a linked folder", r"bird is a symbolic link"),
        ("a link to nowhere", r"cat/2.png is a symbolic link"),
        ("a pipe", r"cat/2.png is not a picture"),
        ("a folder in a class", r"cat/more is not a picture"),
        ("a text in a class", r"cat/notes.txt is not a picture"),
        ("an empty class", r"eel holds no pictures: add some"),
    ],
)
def test_a_folder_with_something_wrong_in_it_is_refused_before_any_row(tmp_path, how, message):
    spoiled(tmp_path, how)
    with pytest.raises(ValueError, match=message):
        folder(tmp_path).rows("train")


def test_a_folder_without_what_it_takes_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"looked in {tmp_path}/none"):
        folder(tmp_path / "none").rows("train")
    with pytest.raises(ValueError, match="holds no folder"):
        folder(tmp_path).rows("train")
    write_folder(tmp_path, ["val/cat/1.png"])
    with pytest.raises(ValueError, match="no pictures of the class 'cat' to train on"):
        folder(tmp_path).rows("val")
    write_folder(tmp_path, ["train/cat/1.png"])
    with pytest.raises(ValueError, match="no pictures of the split 'test': put them into .*/test"):
        folder(tmp_path).rows("test")
    write_folder(tmp_path, ["val/dog/1.png"])
    with pytest.raises(ValueError, match="no pictures of the class 'dog' to train on"):
        folder(tmp_path).rows("train")


@pytest.mark.parametrize("options", [{"size": (0, 5)}, {"channels": 2}, {"val_share": -0.1}, {"val_share": 0.5, "test_share": 0.5}])
def test_impossible_settings_are_refused(tmp_path, options):
    with pytest.raises(ValueError):
        folder(tmp_path, **options)


def test_rows_of_a_folder_reach_a_worker_whole_and_hold_no_open_file(tmp_path):
    write_folder(tmp_path, ["cat/1.png"])
    rows = pickle.loads(pickle.dumps(folder(tmp_path).rows("train")))
    (tmp_path / "cat/1.png").unlink()
    with pytest.raises(BadSample, match="^cat/1.png: the file cannot be read: No such file"):
        rows.row(0, DRAW)


def test_a_row_is_the_picture_in_the_size_and_the_channels_that_were_asked_for(tmp_path):
    write_folder(tmp_path, ["cat/1.png", "dog/1.png"])
    pixels = np.array(Image.open(tmp_path / "dog/1.png"))
    same = folder(tmp_path, entry="photo").rows("train").row(1, DRAW)
    assert same.keys() == {"photo", "target"} and np.array_equal(same["photo"].permute(1, 2, 0), pixels) and same["target"] == 1
    assert folder(tmp_path, size=(3, 11), channels=1).rows("train").row(0, DRAW)["image"].shape == (1, 3, 11)
