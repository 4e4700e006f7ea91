"""The cache: rows come out as they were decoded, once, whole or not at all."""

import pickle

import numpy as np
import pytest
import torch
from toy_datasets import ToyImages, ToyRows, ToySounds, make_sound

from perceiver.data.cache import Cached, CachedRows, write_rows
from perceiver.data.rows import BadSample, Rows


def draw() -> np.random.Generator:
    return np.random.default_rng(11)


def test_rows_come_out_as_they_went_in(tmp_path):
    source = ToySounds(7)
    cached = Cached(source, tmp_path / "cache")
    cached.prepare()
    rows, original = cached.rows("train"), source.rows("train")
    assert len(rows) == 7 and [rows.name(i) for i in range(7)] == [original.name(i) for i in range(7)]
    for i in range(7):
        expected = original.row(i, np.random.default_rng(i))
        found = rows.row(i, draw())
        assert found.keys() == expected.keys() and torch.equal(found["audio"], expected["audio"]) and found["target"] == expected["target"]
    assert (cached.entries, cached.ragged, cached.task, cached.classes) == (source.entries, source.ragged, source.task, source.classes)


def test_each_row_is_decoded_once(tmp_path):
    decoded = []

    def make(index: int, generator: np.random.Generator) -> dict:
        decoded.append(index)
        return make_sound(index, generator)

    class Counted(ToySounds):
        def rows(self, split):
            return ToyRows(5, make)

    for _ in range(2):
        cached = Cached(Counted(), tmp_path / "cache")
        cached.prepare()
        cached.rows("val").row(3, draw())
    assert decoded == 3 * [0, 1, 2, 3, 4]  # three splits


def test_a_row_that_is_changed_leaves_the_cache_as_it_was(tmp_path):
    write_rows(ToyRows(3, make_sound), tmp_path / "split")
    rows = CachedRows(tmp_path / "split")
    rows.row(1, draw())["audio"].zero_()
    assert rows.row(1, draw())["audio"].abs().sum() > 0


def test_a_bad_sample_is_bad_from_the_cache_too(tmp_path):
    cached = Cached(ToyImages(5, bad=[3]), tmp_path / "cache")
    cached.prepare()
    rows = cached.rows("train")
    assert rows.row(4, draw())["target"] == 1
    with pytest.raises(BadSample, match="row-3: it is broken"):
        rows.row(3, draw())


def test_a_cache_goes_to_workers_without_its_mapping(tmp_path):
    write_rows(ToyRows(3, make_sound), tmp_path / "split")
    rows = CachedRows(tmp_path / "split")
    rows.row(1, draw())
    assert torch.equal(pickle.loads(pickle.dumps(rows)).row(2, draw())["audio"], rows.row(2, draw())["audio"])


def test_what_is_interrupted_leaves_nothing(tmp_path):
    def broken(index: int, generator: np.random.Generator) -> dict:
        if index == 2:
            raise RuntimeError("the power is out")
        return make_sound(index, generator)

    with pytest.raises(RuntimeError, match="power"):
        write_rows(ToyRows(3, broken), tmp_path / "split")
    assert not list(tmp_path.iterdir())


def test_two_processes_that_decode_the_same_at_once_both_go_on(tmp_path):
    class Slow(Rows):
        alone = True

        def __len__(self):
            return 1

        def name(self, index):
            return "a"

        def row(self, index, draw):
            if self.alone:
                self.alone = False
                write_rows(self, tmp_path / "cache")  # the other process
            return {"target": 3}

    write_rows(Slow(), tmp_path / "cache")
    assert CachedRows(tmp_path / "cache").row(0, np.random.default_rng(0)) == {"target": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_cache_of_other_rows_another_version_or_damaged_is_refused(tmp_path):
    Cached(ToySounds(5), tmp_path / "cache").prepare()
    with pytest.raises(ValueError, match="holds 5 rows, and not those of the dataset, which has 7: delete it"):
        Cached(ToySounds(7), tmp_path / "cache").prepare()
    index = tmp_path / "cache/train/index.json"
    index.write_text(index.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match="version 2 of the cache, and this is version 1"):
        Cached(ToySounds(5), tmp_path / "cache").rows("train")
    with open(tmp_path / "cache/val/rows.bin", "ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="rows.bin has .* bytes, and its index says"):
        Cached(ToySounds(5), tmp_path / "cache").rows("val")
    with pytest.raises(FileNotFoundError, match="prepare\\(\\) decodes"):
        Cached(ToySounds(5), tmp_path / "nowhere").rows("val")
