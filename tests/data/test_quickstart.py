"""The quickstart dataset: what is in it, who is in which split, and what its loader promises."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from perceiver.data import Quickstart, collate
from perceiver.data.quickstart import ANSWERS, KINDS, SPLITS, QuestionBatches, Questions, Split, answer, jitter
from perceiver.tokenizer import decode

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "data/quickstart"


@pytest.fixture(scope="module")
def splits():
    return {name: Split(FOLDER, name) for name in SPLITS}


def test_the_embedded_dataset_is_smaller_than_four_megabytes():
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 4_000_000


def test_the_pictures_are_those_of_the_uci_set(splits):
    datasets = pytest.importorskip("sklearn.datasets")
    original = datasets.load_digits()
    ours = np.concatenate([(split.images * 16).numpy().astype(int).reshape(-1, 64) for split in splits.values()])
    assert len(ours) == 1797
    assert sorted(map(tuple, ours)) == sorted(map(tuple, original.data.astype(int)))


def test_no_voice_of_the_test_is_heard_in_training(splits):
    def speakers(name):
        return {
            re.sub(r"\d+$", "", voice.split("+")[1].lower()) if voice.split("+")[1][1:] not in "12345678" else voice.split("+")[1]
            for voice in splits[name].voices
        }

    assert not speakers("train") & speakers("test")
    assert not speakers("train") & speakers("val")
    assert not speakers("val") & speakers("test")


def test_every_split_has_every_digit_in_both_modalities(splits):
    for split in splits.values():
        assert all(len(rows) > 0 for rows in split.images_of) and all(len(rows) > 0 for rows in split.clips_of)


def test_a_row_is_a_function_of_seed_and_number_alone(splits):
    one, two = (Questions(splits["train"], 3, augment=jitter) for _ in range(2))
    two[5], two[2]
    for key, value in one[11].items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(two[11][key]))
    assert not torch.equal(one[11]["image"], Questions(splits["train"], 4, augment=jitter)[11]["image"])


def test_the_answer_follows_from_picture_sound_and_question(splits):
    assert [answer(kind, 3, 9) for kind in KINDS] == ["3", "9", "12", "no"]
    assert answer("same", 4, 4) == "yes"
    rows = Questions(splits["val"], 1)
    for k in range(40):
        row = rows[k]
        kind = KINDS[row["dataset"]]
        written = next(d for d in range(10) if any(torch.equal(row["image"], splits["val"].images[i]) for i in splits["val"].images_of[d]))
        spoken = next(d for d in range(10) if any(torch.equal(row["audio"], splits["val"].clips[i]) for i in splits["val"].clips_of[d]))
        assert ANSWERS[row["target"]] == answer(kind, written, spoken)
        assert decode(row["text"].tolist()).decode() in splits["val"].questions[kind]


def test_the_kinds_of_question_take_turns_and_half_of_the_same_are_the_same(splits):
    rows = [Questions(splits["test"], 2)[k] for k in range(400)]
    assert [row["dataset"] for row in rows[:8]] == [0, 1, 2, 3, 0, 1, 2, 3]
    yes = sum(row["target"] == ANSWERS.index("yes") for row in rows)
    assert 35 <= yes <= 65  # 100 rows of that kind; four standard deviations are 20


def test_epochs_never_repeat_a_row():
    rows = Questions(Split(FOLDER, "train"), 3)
    sounds = [row for step in range(3) for row in QuestionBatches(rows, 6)[step]["audio"].sum((1, 2)).tolist()]
    assert len(set(sounds)) == 18


def test_ranks_share_a_batch():
    rows = Questions(Split(FOLDER, "train"), 3)
    whole, parts = QuestionBatches(rows, 6)[5], [QuestionBatches(rows, 6, rank=rank, world_size=2)[5] for rank in range(2)]
    assert torch.equal(torch.cat([part["image"] for part in parts]), whole["image"])
    with pytest.raises(ValueError, match="batch_size=6 rows cannot be shared equally among 4 ranks"):
        QuestionBatches(rows, 6, world_size=4)


def test_a_batch_holds_what_the_model_reads():
    data = Quickstart(str(FOLDER), batch_size=5, num_workers=0)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (5, 1, 8, 8) and batch["audio"].shape[:2] == (5, 1) and batch["text"].dtype == torch.int64
    assert batch["audio_length"].max() == batch["audio"].shape[-1]
    assert batch["image_present"].all() and batch["target"].max() < len(ANSWERS)


def test_a_row_without_a_modality_costs_no_payload():
    rows = [{"image": torch.ones(1, 2, 2), "target": 0}, {"audio": torch.ones(1, 3), "target": 1}, {"audio": torch.ones(1, 5), "target": 2}]
    batch = collate(rows, ("image", "audio", "text"), ragged=("audio", "text"))
    assert batch["image"].shape == (1, 1, 2, 2) and batch["audio"].shape == (2, 1, 5)
    assert batch["audio_length"].tolist() == [3, 5]
    assert batch["image_present"].tolist() == [True, False, False] and batch["text_present"].tolist() == [False] * 3
    assert "text" not in batch and batch["target"].tolist() == [0, 1, 2]


def test_a_row_without_any_modality_is_refused():
    with pytest.raises(ValueError, match="row 1 .* none of the modalities image, audio"):
        collate([{"image": torch.ones(1), "target": 0}, {"target": 1}], ("image", "audio"))


def test_a_row_that_lacks_what_others_say_is_refused():
    with pytest.raises(ValueError, match=r"'target' is missing from rows \[1\]"):
        collate([{"image": torch.ones(1), "target": 0}, {"image": torch.ones(1)}], ("image",))


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"steps_per_epoch": 0}, {"test_rows": -1}, {"turns": []}, {"turns": ["sung"]}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError):
        Quickstart(str(FOLDER), **options)


def test_a_dataset_that_is_not_whole_says_what_is_missing_and_where(tmp_path):
    np.savez(tmp_path / "digits.npz", images=np.zeros((1, 8, 8)))
    with pytest.raises(FileNotFoundError, match=rf"clips.csv, questions.json, speech not found in {tmp_path}"):
        Quickstart(str(tmp_path)).split("train")


def dataset_of_one_recording(folder, rate, start, stop):
    """A whole dataset with one picture and one recording, ten samples long."""
    (folder / "speech").mkdir()
    soundfile.write(folder / "speech/a.flac", np.zeros(10), rate)
    np.savez(folder / "digits.npz", images=np.zeros((1, 8, 8), np.uint8), digits=np.zeros(1, np.uint8), split=np.zeros(1, np.uint8))
    (folder / "questions.json").write_text("{}")
    (folder / "clips.csv").write_text(f"split,file,start,stop,digit,voice,rate,pitch\ntrain,speech/a.flac,{start},{stop},0,x,1,1\n")


def test_an_empty_recording_is_refused_with_its_place(tmp_path):
    dataset_of_one_recording(tmp_path, rate=8000, start=5, stop=5)
    with pytest.raises(ValueError, match=r"clips.csv, recording 0 of the split: .* 5 to 5 .* 10 samples"):
        Split(tmp_path, "train")


def test_a_recording_at_another_rate_is_refused(tmp_path):
    dataset_of_one_recording(tmp_path, rate=16000, start=0, stop=10)
    with pytest.raises(ValueError, match="a.flac is at 16000 Hz .* 8000 Hz"):
        Split(tmp_path, "train")


def test_the_readme_states_the_ceilings_that_the_script_computes(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import ceilings

    text = (FOLDER / "README.md").read_text()
    for line in ceilings.table():
        assert line in text
    sys.modules.pop("ceilings")
