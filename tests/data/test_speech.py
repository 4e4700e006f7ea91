"""Published sets of sounds: their layouts, their splits, and how they get to where they are read."""

import hashlib
import io
import pickle
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from perceiver.data import archive, download
from perceiver.data.archive import unpack
from perceiver.data.audio import speech
from perceiver.data.audio.esc50 import ESC50
from perceiver.data.audio.speech import FreeSpokenDigits, SpeechCommands

SHARED = Path(__file__).parent.parent.parent.parent / "shared/data/fsdd.tar.xz"
DRAW = np.random.default_rng(0)


def write(file, frames=13, rate=8_000, seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.random.default_rng(seed).integers(-9_000, 9_000, frames).astype(np.int16), rate)


def packed(folder, file):
    """A tar of a folder, under its name."""
    with tarfile.open(file, "w:xz") as tar:
        tar.add(folder, folder.name)


def counts(source):
    return [len(source.rows(split)) for split in ("train", "val", "test")]


# Free Spoken Digits


@pytest.fixture
def few_digits(tmp_path, monkeypatch):
    """A small copy of the layout, with its own checksum: two digits, two speakers, nine recordings of each."""
    folder = tmp_path / "some/fsdd"
    for number, name in enumerate(f"{digit}_{speaker}_{index}" for digit in (3, 7) for speaker in ("theo", "lucas") for index in range(9)):
        write(folder / f"recordings/{name}.wav", frames=11 + number, seed=number)
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted((folder / "recordings").iterdir())]
    monkeypatch.setattr(FreeSpokenDigits, "sha256", hashlib.sha256("".join(lines).encode()).hexdigest())
    return folder


def test_a_spoken_digit_is_what_its_file_holds(few_digits):
    for split, indices in (("train", {"8"}), ("val", {"5", "6", "7"}), ("test", set("01234"))):
        rows = FreeSpokenDigits(few_digits, entry="sound").rows(split)
        assert len(rows) == 4 * len(indices)
        for i in range(len(rows)):
            digit, _, index = Path(rows.name(i)).stem.split("_")
            expected, _ = soundfile.read(few_digits / rows.name(i), dtype="float32")
            row = pickle.loads(pickle.dumps(rows)).row(i, DRAW)
            assert torch.equal(row["sound"], torch.from_numpy(expected)[None]) and row["target"] == int(digit) and index in indices


def test_a_speaker_that_is_held_out_is_in_the_test_alone(few_digits):
    source = FreeSpokenDigits(few_digits, held_out_speaker="theo")
    speakers = {
        split: Counter(rows.name(i).split("_")[1] for i in range(len(rows))) for split in ("train", "val", "test") for rows in [source.rows(split)]
    }
    assert speakers == {"train": {"lucas": 12}, "val": {"lucas": 6}, "test": {"theo": 18}}
    with pytest.raises(ValueError, match="held_out_speaker='nobody': give one of george"):
        FreeSpokenDigits(held_out_speaker="nobody")


@pytest.mark.parametrize("place", ["data/fsdd", "data"])
def test_an_archive_in_or_beside_the_folder_is_unpacked(few_digits, tmp_path, place):
    (tmp_path / "data/fsdd").mkdir(parents=True)
    packed(few_digits, tmp_path / place / "fsdd.tar.xz")
    source = FreeSpokenDigits(tmp_path / "data/fsdd")
    with pytest.raises(FileNotFoundError, match=rf"looked in {tmp_path}/data/fsdd; prepare\(\)"):
        source.rows("train")
    source.prepare()
    source.prepare()
    assert counts(source) == [4, 12, 20]
    assert {path.name for path in (tmp_path / "data/fsdd").iterdir()} <= {"recordings", "fsdd.tar.xz"}


def test_recordings_that_are_not_the_official_ones_are_refused_and_not_unpacked(few_digits, tmp_path):
    write(few_digits / "recordings/3_theo_0.wav", frames=12)
    with pytest.raises(ValueError, match="not hold the official recordings: SHA-256"):
        FreeSpokenDigits(few_digits).rows("test")
    packed(few_digits, tmp_path / "fsdd.tar.xz")
    with pytest.raises(ValueError, match="not hold the official recordings"):
        FreeSpokenDigits(tmp_path / "new").prepare()
    assert list((tmp_path / "new").iterdir()) == []


def test_what_cannot_be_fetched_says_where_it_may_be_put(tmp_path, monkeypatch):
    def offline(url, *_, **__):
        raise OSError(f"no route to {url}")

    monkeypatch.setattr(archive, "retrieve", offline)
    monkeypatch.setattr(download, "retrieve", offline)
    for source, folder in ((FreeSpokenDigits, "fsdd"), (ESC50, "esc50"), (SpeechCommands, "commands")):
        with pytest.raises(FileNotFoundError, match=f"looked in {tmp_path}/{folder}.*no route to http"):
            source(tmp_path / folder).prepare()
        assert not list((tmp_path / folder).glob("*"))


def test_the_official_archive_is_unpacked_from_its_own_layout(few_digits, tmp_path, monkeypatch):
    few_digits.rename(tmp_path / "free-spoken-digit-dataset-1.0.10")
    packed(tmp_path / "free-spoken-digit-dataset-1.0.10", tmp_path / "v1.tar")
    fetched = []

    def fetch(url, file, **_):
        fetched.append(url)
        Path(file).write_bytes((tmp_path / "v1.tar").read_bytes())

    monkeypatch.setattr(archive, "retrieve", fetch)
    source = FreeSpokenDigits(tmp_path / "data/fsdd")
    source.prepare()
    assert counts(source) == [4, 12, 20] and fetched == [source.url]


@pytest.mark.skipif(not SHARED.exists(), reason=f"needs the Free Spoken Digit Dataset at {SHARED}")
def test_the_real_recordings_have_the_official_counts_and_lengths(tmp_path):
    (tmp_path / "fsdd.tar.xz").symlink_to(SHARED)
    source = FreeSpokenDigits(tmp_path / "fsdd")
    source.prepare()
    held_out = FreeSpokenDigits(source.root, held_out_speaker="theo")
    held_out.digits = source.digits
    assert counts(source) == [2_520, 180, 300] and counts(held_out) == [2_350, 150, 500]
    for split in ("train", "val", "test"):
        rows = source.rows(split)
        found = Counter((row["target"], rows.name(i).split("_")[1]) for i in range(len(rows)) for row in [rows.row(i, DRAW)])
        assert len(found) == 60 and len(set(found.values())) == 1
    lengths = [end - start for start, end in zip([0, *source.digits.ends], source.digits.ends, strict=False)]
    assert f"of {min(lengths) / 8_000:.2f} to {max(lengths) / 8_000:.2f} s" in FreeSpokenDigits.__doc__


# Archives


def tar_of(file, *members):
    with tarfile.open(file, "w") as tar:
        for name, options in members:
            info = tarfile.TarInfo(name)
            for key, value in options.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(bytes(info.size)))


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../out", {}), "outside the destination"),
        (("a/link", {"type": tarfile.SYMTYPE, "linkname": "../../out"}), "outside the destination"),
        (("a/device", {"type": tarfile.CHRTYPE}), "special file"),
        (("a/large", {"size": 98}), "claims more than 97 bytes"),
        (("b", {}), "holds no a"),
    ],
)
def test_an_archive_that_leads_out_of_its_folder_or_is_another_one_leaves_nothing_behind(tmp_path, monkeypatch, member, reason):
    monkeypatch.setattr(archive, "MOST_BYTES", 97)
    tar_of(tmp_path / "a.tar", member)
    with pytest.raises(ValueError, match=reason):
        unpack(tmp_path / "a.tar", "a", tmp_path / "place/folder", lambda folder: None)
    assert list((tmp_path / "place").iterdir()) == [] and {path.name for path in tmp_path.iterdir()} == {"a.tar", "place"}


def test_two_processes_that_unpack_the_same_archive_at_once_both_go_on(few_digits, tmp_path):
    packed(few_digits, tmp_path / "a.tar.xz")
    place = tmp_path / "place/recordings"
    checked = []

    def other_was_faster(folder):
        checked.append(folder)
        if len(checked) == 1:
            shutil.copytree(folder, place)

    unpack(tmp_path / "a.tar.xz", "*/recordings", place, other_was_faster)
    assert checked[-1] == place and [path.name for path in place.parent.iterdir()] == ["recordings"]


def test_what_another_process_unpacked_is_taken_only_when_it_is_right(few_digits, tmp_path):
    packed(few_digits, tmp_path / "a.tar.xz")
    place = tmp_path / "place/recordings"

    def other_put_something_else_there(folder):
        if folder == place:
            raise ValueError("not the right one")
        (place / "else").mkdir(parents=True)

    with pytest.raises(ValueError, match="not the right one"):
        unpack(tmp_path / "a.tar.xz", "*/recordings", place, other_put_something_else_there)


@pytest.mark.parametrize("keep", [0, 300, 600])
def test_a_truncated_archive_is_refused(few_digits, tmp_path, keep):
    packed(few_digits, tmp_path / "whole.tar.xz")
    (tmp_path / "a.tar.xz").write_bytes((tmp_path / "whole.tar.xz").read_bytes()[:keep])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar.xz", "*/recordings", tmp_path / "place/folder", lambda folder: None)
    assert list((tmp_path / "place").iterdir()) == []


# Speech Commands


class TwoWords(SpeechCommands):
    num_words = 2


@pytest.fixture
def commands(tmp_path):
    folder = tmp_path / "commands"
    for name in ("yes/a_nohash_0", "yes/b_nohash_0", "yes/c_nohash_1", "up/a_nohash_0", "up/d_nohash_2", "_background_noise_/hum"):
        write(folder / f"{name}.wav", frames=1_601, rate=16_000)
    (folder / "validation_list.txt").write_text("yes/b_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("yes/c_nohash_1.wav\nup/d_nohash_2.wav\n")
    return folder


@pytest.mark.parametrize("below", ["", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"])
def test_the_lists_say_the_split_of_a_command_and_noise_is_left_out(commands, tmp_path, below):
    if below:
        (tmp_path / "root" / below).parent.mkdir(parents=True)
        commands.rename(tmp_path / "root" / below)
    source = TwoWords(tmp_path / "root" if below else commands)
    found = {split: [rows.name(i) for i in range(len(rows))] for split in ("train", "val", "test") for rows in [source.rows(split)]}
    assert found == {
        "train": ["up/a_nohash_0.wav", "yes/a_nohash_0.wav"],
        "val": ["yes/b_nohash_0.wav"],
        "test": ["up/d_nohash_2.wav", "yes/c_nohash_1.wav"],
    }
    assert source.classes == ["up", "yes"] and [source.rows("test").row(i, DRAW)["target"] for i in range(2)] == [0, 1]
    assert source.rows("val").row(0, DRAW)["audio"].shape == (1, 1_601)


def test_commands_are_resampled(commands):
    assert TwoWords(commands, sample_rate=8_000).rows("val").row(0, DRAW)["audio"].shape == (1, 801)


def test_commands_that_are_not_all_there_are_refused(commands):
    with pytest.raises(ValueError, match="folders of 2 words, and there should be 35"):
        SpeechCommands(commands).rows("train")
    (commands / "yes/b_nohash_0.wav").unlink()
    with pytest.raises(FileNotFoundError, match="^1 of the files .*yes/b_nohash_0.wav"):
        TwoWords(commands).rows("train")
    with pytest.raises(FileNotFoundError, match=r"Speech Commands \(validation_list.txt"):
        SpeechCommands(commands / "none").rows("train")


def test_the_checksum_of_the_commands_is_that_of_torchaudio():
    official = pytest.importorskip("torchaudio.datasets.speechcommands")._CHECKSUMS
    assert official["http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"] == SpeechCommands.sha256


def test_the_archive_of_the_commands_is_verified_and_unpacked(commands, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "archive", "w:gz") as tar:
        tar.add(commands, ".")
    monkeypatch.setattr(speech, "fetch", lambda what, urls, file, sha256: [file.parent.mkdir(), (tmp_path / "archive").rename(file)])
    source = TwoWords(tmp_path / "root")
    source.prepare()
    assert counts(source) == [2, 1, 2]
    assert source.task == {"task": "classification", "num_classes": 2}


# ESC-50


class TwoSounds(ESC50):
    num_classes = 2
    num_clips = 10


@pytest.fixture
def environment(tmp_path):
    """Two classes in five folds, numbered against the order of their names."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, category in enumerate(("rooster", "dog")):
            name = f"{fold}-100{fold}-A-{target}.wav"
            write(tmp_path / "esc/audio" / name, frames=211 * fold, rate=44_100)
            lines.append(f"{name},{fold},{target},{category},False,100{fold},A")
    (tmp_path / "esc/meta").mkdir()
    (tmp_path / "esc/meta/esc50.csv").write_text("\n".join(lines))
    return tmp_path / "esc"


def test_folds_are_the_splits_and_classes_keep_their_official_numbers(environment):
    source = TwoSounds(environment, val_fold=2, test_fold=1)
    assert source.classes == ["rooster", "dog"] and counts(source) == [6, 2, 2]
    rows = source.rows("test")
    assert [(rows.name(i), rows.row(i, DRAW)["target"]) for i in range(2)] == [("audio/1-1001-A-0.wav", 0), ("audio/1-1001-A-1.wav", 1)]
    assert source.rows("val").row(0, DRAW)["audio"].shape == (1, 422)


def test_the_same_fold_twice_and_folds_that_are_not_there_are_refused():
    for folds in ({"val_fold": 5}, {"test_fold": 6}, {"val_fold": 0}):
        with pytest.raises(ValueError, match="two different ones out of 1 to 5"):
            ESC50(**folds)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("1-1001-A-0.wav,1,0", "1-1001-A-0.wav,2,0", "line 2 says fold 2 and class 0 of '1-1001-A-0.wav', whose name says otherwise"),
        ("1-1001-A-0.wav,1,0", "1-1001-A-0.wav,1,1", "line 2 says fold 1 and class 1"),
        ("1-1001-A-0.wav", "1-../../x-A-0.wav", "is no path below"),
        ("1001,A", "1001,A\n1-9-A-0.wav,1,0,rooster,False,9,A", "lists 11 recordings of 2 classes, not 10 of 2"),
        ("5,1,dog", "5,1,wolf", "lists 10 recordings of 3 classes, not 10 of 2"),
        ("5,1,dog", "5,1,rooster", "numbers its classes in more than one way"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(environment, before, after, reason):
    table = environment / "meta/esc50.csv"
    table.write_text(table.read_text().replace(before, after, 1))
    with pytest.raises(ValueError, match=reason):
        TwoSounds(environment).rows("train")


def test_sounds_that_are_not_all_there_are_refused(environment):
    with pytest.raises(ValueError, match="lists 10 recordings of 2 classes, not 2000 of 50"):
        ESC50(environment).rows("train")
    (environment / "audio/3-1003-A-1.wav").unlink()
    with pytest.raises(FileNotFoundError, match="^1 of the files .*audio/3-1003-A-1.wav"):
        TwoSounds(environment).rows("train")


def test_the_archive_of_the_environment_is_unpacked_from_its_own_layout(environment, tmp_path, monkeypatch):
    environment.rename(tmp_path / "ESC-50-master")
    packed(tmp_path / "ESC-50-master", tmp_path / "master.tar")
    monkeypatch.setattr(archive, "retrieve", lambda url, file, **_: Path(file).write_bytes((tmp_path / "master.tar").read_bytes()))
    source = TwoSounds(tmp_path / "data/esc50")
    source.prepare()
    assert counts(source) == [6, 2, 2] and source.place == tmp_path / "data/esc50/ESC-50-master"
