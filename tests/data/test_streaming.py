"""Shards and streaming: rows come back exactly, from anywhere, in steps that depend on the seed and their number alone."""

import gc
import json
import math
import multiprocessing
import re
import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from builders import DIM, bounded, small_encoder, three_adapters
from hypothesis import given
from hypothesis import strategies as st
from toy_datasets import AddNoise, ToyImages, ToyRows, ToySounds, ToyTexts, make_image, make_sound, make_text, toy_mixture

from perceiver import Decoder, MultitaskPerceiver
from perceiver.cli import main
from perceiver.data.mixture.datamodule import MixedDataModule, Stream
from perceiver.data.mixture.loader import MixtureLoader, Steps
from perceiver.data.mixture.sharding import write_shards
from perceiver.data.mixture.shards import Shards
from perceiver.data.mixture.streaming import ShardMixture, StreamingMixture
from perceiver.data.row_bytes import DTYPES, from_bytes, to_bytes
from perceiver.data.rows import BadSample, Row
from perceiver.data.source import Source
from perceiver.resume import RandomState
from perceiver.tasks import Multitask

pytest.importorskip("litdata", reason="shards need litdata: pip install perceiver-lightning[streaming]")
ROOT = Path(__file__).parent.parent.parent
DRAW = np.random.default_rng(0)  # for rows that draw nothing


def identical(a: Row, b: Row) -> bool:
    """Whether two rows have the same entries of the same types, bit by bit."""
    return a.keys() == b.keys() and all(type(a[key]) is type(b[key]) and to_bytes({key: a[key]}, "") == to_bytes({key: b[key]}, "") for key in a)


class ToyPairs(Source):
    """Rows that have a picture, a sound, or both, and a sound's text; the number of a row is its target."""

    entries = ("image", "audio")
    ragged = ("audio",)
    classes = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ")

    def rows(self, split):
        return ToyRows({"train": 43, "val": 11, "test": 7}[split], self.make)

    def make(self, index: int, draw: np.random.Generator) -> Row:
        parts = [make_image(index, draw), {key: value for key, value in make_sound(index, draw).items() if key == "audio"}]
        row = parts[0] | parts[1] if index % 3 == 0 else parts[index % 3 - 1]
        return row | {"target": index, "weight": index / 7, "flag": bool(index % 2)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """A dataset in shards of about five rows, as a folder."""
    folder = tmp_path_factory.mktemp("shards") / "pairs"
    write_shards(ToyPairs(), folder, chunk_bytes=3_000)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The datasets of the toy mixture in shards."""
    base = tmp_path_factory.mktemp("toys")
    for name, source in (("images", ToyImages()), ("sounds", ToySounds()), ("texts", ToyTexts())):
        write_shards(source, base / name, chunk_bytes=4_000)
    return {name: base / name for name in ("images", "sounds", "texts")}


def streamed(folders: dict[str, Path], cache: Path, **options) -> StreamingMixture:
    """The toy mixture out of shards, which are fetched to the cache as if they were far away."""
    sources = {name: Shards(f"local:{folder}", cache=str(cache)) for name, folder in folders.items()}
    streams = {name: Stream(source, augment=[AddNoise()] if name == "images" else []) for name, source in sources.items()}
    return StreamingMixture(streams, **{**dict(batch_size=6, steps_per_epoch=7, num_workers=0, seed=5, eval_batch_size=13), **options})


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


shapes = st.lists(st.integers(0, 5), max_size=3)
numbers = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False))


@bounded
@given(st.lists(st.tuples(st.sampled_from(sorted(DTYPES)), shapes), max_size=4), st.dictionaries(st.text(max_size=3), numbers, max_size=3))
def test_rows_come_back_from_bytes_bit_by_bit(tensors, plain):
    row: Row = {f"tensor {i}": (torch.randn(shape) * 50).to(DTYPES[name]) for i, (name, shape) in enumerate(tensors)}
    row |= {f"plain {name}": value for name, value in plain.items()}
    again = from_bytes(to_bytes(row, "a"), "a")
    assert again.keys() == row.keys()
    for key, value in row.items():
        assert type(again[key]) is type(value)
        if isinstance(value, torch.Tensor):
            assert again[key].dtype == value.dtype and torch.equal(again[key], value)
        else:
            assert again[key] == value


def test_tensors_that_are_parts_of_others_come_back_as_well():
    whole = torch.arange(5 * 7 * 2).reshape(5, 7, 2)
    for part in (whole[::2, 3, 1], whole.transpose(0, 2), whole[..., 0], torch.arange(13)[::3]):
        assert torch.equal(from_bytes(to_bytes({"a": part}, "a"), "a")["a"], part)


@pytest.mark.parametrize("value", ["text", None, [1], np.float32(3), torch.zeros(2, dtype=torch.complex64)], ids=lambda value: type(value).__name__)
def test_what_a_shard_cannot_hold_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"row-13: 'odd' is a (str|NoneType|list|float32|complex64)"):
        to_bytes({"image": torch.zeros(3), "odd": value}, "row-13")


def test_bytes_that_are_cut_or_changed_are_a_bad_sample():
    whole = to_bytes({"image": torch.arange(6.0).reshape(2, 3), "target": 5}, "a")
    for length in range(len(whole)):
        with pytest.raises(BadSample, match="write the shards again"):
            from_bytes(whole[:length], "a")
    for header in ("[]", '{"numbers": 3, "tensors": []}', '{"numbers": {}, "tensors": [["a", "object", [1]]]}'):
        with pytest.raises(BadSample, match="not a row"):
            from_bytes(len(header).to_bytes(4, "little") + header.encode(), "a")


def test_evaluation_rows_are_those_of_the_dataset_in_its_order(pairs):
    for split in ("val", "test"):
        theirs, ours = ToyPairs().rows(split), Shards(str(pairs)).rows(split)
        assert len(ours) == len(theirs)
        assert all(identical(ours.row(i, DRAW), theirs.row(i, np.random.default_rng((0, i)))) for i in range(len(theirs)))


def test_training_rows_are_those_of_the_dataset_in_another_order(pairs):
    theirs, ours = ToyPairs().rows("train"), Shards(str(pairs)).rows("train")
    order = [ours.row(i, DRAW)["target"] for i in range(len(ours))]
    assert sorted(order) == list(range(43)) and order != sorted(order)
    assert all(identical(ours.row(i, DRAW), theirs.row(target, np.random.default_rng((0, target)))) for i, target in enumerate(order))


def test_workers_write_the_same_shards(pairs, tmp_path):
    write_shards(ToyPairs(), tmp_path / "again", chunk_bytes=3_000, num_workers=2)
    files = sorted(file.relative_to(pairs) for file in pairs.rglob("*.bin"))
    assert len(files) > 7
    assert all((pairs / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # litdata leaves its files open
def test_the_shards_are_those_of_litdata(pairs):
    from litdata.streaming.cache import Cache

    theirs, ours = Cache(str(pairs / "train"), chunk_bytes=3_000), Shards(str(pairs)).rows("train")
    assert len(theirs) == len(ours)
    assert all(identical(from_bytes(bytes(theirs[i]), ""), ours.row(i, DRAW)) for i in range(len(ours)))
    del theirs
    gc.collect()


def test_no_row_is_a_pickle(pairs):
    assert json.loads((pairs / "train" / "index.json").read_text())["config"]["data_format"] == ["bytes"]


def test_what_a_dataset_is_for_comes_with_its_shards(folders):
    for name, source in (("images", ToyImages()), ("texts", ToyTexts())):
        shards = Shards(str(folders[name]))
        assert (shards.entries, shards.ragged, shards.classes) == (tuple(source.entries), tuple(source.ragged), tuple(source.classes))
        assert shards.task == dict(source.task)


def test_a_remote_shard_is_fetched_when_its_first_row_is_asked_for_and_its_rows_are_the_same(pairs, tmp_path):
    near, far = Shards(str(pairs)).rows("train"), Shards(f"local:{pairs}", cache=str(tmp_path)).rows("train")
    assert len(far.shards) >= 7
    assert not list(tmp_path.rglob("*.bin"))
    for shard, end in enumerate(far.ends):
        assert identical(far.row(int(end) - 1, DRAW), near.row(int(end) - 1, DRAW))
        assert len(list(tmp_path.rglob("*.bin"))) == shard + 1
    assert all(identical(far.row(i, DRAW), near.row(i, DRAW)) for i in range(len(near)))


def test_the_cache_keeps_what_was_opened_last(pairs, tmp_path):
    sizes = [shard.bytes for shard in Shards(str(pairs)).rows("train").shards]
    most = sizes[-1] + sizes[-2] + sizes[-3] + 1
    near, far = Shards(str(pairs)).rows("train"), Shards(f"local:{pairs}", cache=str(tmp_path), cache_bytes=most).rows("train")
    assert all(identical(far.row(i, DRAW), near.row(i, DRAW)) for i in (*range(len(near)), *range(len(near))))
    kept = lambda: {int(re.findall(r"\d+", file.name)[-1]) for file in tmp_path.rglob("*.bin")}  # noqa: E731
    last = len(sizes) - 1
    assert kept() == {last - 2, last - 1, last}
    far.row(int(far.ends[last - 2]) - 1, DRAW)  # is there already, and counts as the newest now
    far.row(0, DRAW)
    assert kept() == {last - 2, last, 0}
    far.cache_bytes = 1
    far.row(int(far.ends[3]) - 1, DRAW)
    assert kept() == {3}


def read_all(shards: Shards, order: list[int], wanted: list[bytes]) -> None:
    rows = shards.rows("train")
    for index in order:
        if to_bytes(rows.row(index, DRAW), "") != wanted[index]:
            sys.exit(1)


def test_processes_share_a_cache_that_holds_less_than_they_need(pairs, tmp_path):
    near = Shards(str(pairs)).rows("train")
    wanted = [to_bytes(near.row(i, DRAW), "") for i in range(len(near))]
    shards = Shards(f"local:{pairs}", cache=str(tmp_path), cache_bytes=1)
    orders = [list(range(len(near))) * 3, list(range(len(near)))[::-1] * 3]
    processes = [multiprocessing.get_context("fork").Process(target=read_all, args=(shards, order, wanted)) for order in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_shard_that_another_process_removes_before_it_is_opened_is_fetched_again(pairs, tmp_path, monkeypatch):
    memmap, removed = np.memmap, []

    def late(file, **options):
        if not removed:
            removed.append(file)
            file.unlink()
        return memmap(file, **options)

    monkeypatch.setattr(np, "memmap", late)
    far = Shards(f"local:{pairs}", cache=str(tmp_path)).rows("val")
    assert identical(far.row(5, DRAW), ToyPairs().rows("val").row(5, np.random.default_rng((0, 5)))) and len(removed) == 1


def test_shards_that_were_written_anew_at_the_same_address_are_not_taken_for_the_old_ones(tmp_path):
    found = []
    for seed in (3, 5):
        write_shards(ToyImages(), tmp_path / str(seed), seed=seed, splits=["train"])
        (tmp_path / str(seed)).rename(tmp_path / "images")
        rows = Shards(f"local:{tmp_path / 'images'}", cache=str(tmp_path / "cache")).rows("train")
        found.append([rows.row(i, DRAW)["image"][0, 0, 0].item() for i in range(len(rows))])
        (tmp_path / "images").rename(tmp_path / f"{seed}-old")
    assert sorted(found[0]) == sorted(found[1]) and found[0] != found[1]


SHARDS = {"a": [5, 2, 11], "b": [3, 13]}


def mixture(seed: int = 3) -> ShardMixture:
    return ShardMixture(SHARDS, {"a": 0.7, "b": 0.3}, batch_size=6, rows_per_dataset=6, seed=seed)


def passes_over(dataset: int) -> list[list[int]]:
    """The rows of each whole pass over a dataset, in their order."""
    total = sum(SHARDS["ab"[dataset]])
    rows = [draw for step in range(60) for draw in mixture().draws(step) if draw.dataset == dataset]
    whole = [rows[start : start + total] for start in range(0, len(rows) - total, total)]
    assert [{draw.epoch for draw in one} for one in whole] == [{number} for number in range(len(whole))]
    return [[draw.row for draw in one] for one in whole]


@pytest.mark.parametrize("dataset", [0, 1])
def test_each_row_comes_once_in_a_pass_and_the_rows_of_a_shard_follow_one_another(dataset):
    sizes = SHARDS["ab"[dataset]]
    shard_orders, row_orders = set(), set()
    for rows in passes_over(dataset):
        assert sorted(rows) == list(range(sum(sizes)))
        shards = np.searchsorted(np.cumsum(sizes), rows, side="right")
        order = shards[np.flatnonzero(np.diff(shards, prepend=-1))]
        assert len(order) == len(sizes)
        shard_orders.add(tuple(order))
        row_orders.add(tuple(row for row, shard in zip(rows, shards, strict=True) if shard == len(sizes) - 1))
    assert len(shard_orders) > 1 and len(row_orders) == len(passes_over(dataset)) > 4


def test_steps_depend_on_seed_and_number_alone_and_ranks_share_them():
    for step in (0, 1, 4, 17, 1000):
        whole = mixture().draws(step)
        assert whole == mixture().draws(step) != mixture(seed=7).draws(step)
        for world_size in (2, 3):
            assert [draw for rank in range(world_size) for draw in mixture().draws(step, rank, world_size)] == whole


def test_batches_are_those_of_the_mixture_without_shards(folders, tmp_path):
    far, near = streamed(folders, tmp_path), toy_mixture()
    assert far.tasks == near.tasks and far.classes == near.classes
    for ours, theirs in zip(far.train_dataloader(), near.train_dataloader(), strict=True):
        assert {key: (value.dtype, value.shape[:-1]) for key, value in ours.items()} == {k: (v.dtype, v.shape[:-1]) for k, v in theirs.items()}
        assert torch.equal(ours["dataset"], theirs["dataset"])
    assert all(same(a, b) for a, b in zip(far.val_dataloader(), near.val_dataloader(), strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_step_is_the_first_after_resuming_with_any_number_of_workers(folders, tmp_path, workers):
    whole = list(streamed(folders, tmp_path).train_dataloader())
    for done in range(7):
        loader = streamed(folders, tmp_path, num_workers=workers if done in (3, 4) else 0).train_dataloader()
        resumed = MixtureLoader(loader.batches, Steps(lambda done=done: done, 7), num_workers=loader.loader.num_workers, timeout=60.0)
        assert all(same(a, b) for a, b in zip(resumed, whole[done:], strict=True))


def fit(data: MixedDataModule, folder: Path, steps: int, resume: Path | None = None) -> list[float]:
    """Trains a small model, and gives the losses."""
    losses = []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            losses.append(float(outputs["loss"]))
            trainer.should_stop = trainer.global_step >= steps

    torch.manual_seed(7)
    task = Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), data.tasks, warmup_steps=3)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0)
    trainer = L.Trainer(default_root_dir=folder, accelerator="cpu", max_steps=11, max_epochs=-1, callbacks=[Watch(), RandomState()], **quiet)
    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / f"{steps}.ckpt", weights_only=False)
    iterator = trainer.train_dataloader.loader._iterator
    if iterator is not None:
        iterator._shutdown_workers()  # when the garbage collector does it, it takes five seconds for each
    return losses


@pytest.mark.filterwarnings("ignore:The '(train|val)_dataloader' does not have many workers", "ignore:.*isinstance\\(treespec, LeafSpec\\)")
def test_a_training_that_is_resumed_between_two_workers_turns_is_the_one_that_was_left_alone(folders, tmp_path):
    whole = fit(streamed(folders, tmp_path), tmp_path, 11)
    begun = fit(streamed(folders, tmp_path, num_workers=2), tmp_path, 3)
    rest = fit(streamed(folders, tmp_path, num_workers=1), tmp_path, 11, resume=tmp_path / "3.ckpt")
    assert len(whole) == 11 and begun == whole[:3] and rest == whole[3:]


def test_a_checkpoint_of_other_shards_with_as_many_rows_is_refused(folders, tmp_path):
    write_shards(ToyImages(), tmp_path / "images", seed=3, chunk_bytes=4_000)
    state = streamed(folders, tmp_path).state_dict()
    other = streamed(folders | {"images": tmp_path / "images"}, tmp_path)
    other.load_state_dict(state)
    with pytest.raises(ValueError, match="trained on another mixture.*shards was"):
        other.train_dataloader()
    plain = streamed(folders, tmp_path)
    plain.load_state_dict(toy_mixture().state_dict())
    with pytest.raises(ValueError, match="shards was None"):
        plain.train_dataloader()


def test_a_dataset_that_is_not_in_shards_may_stand_beside_those_that_are(pairs):
    datasets = {"pairs": Stream(Shards(str(pairs))), "images": Stream(ToyImages())}
    data = StreamingMixture(datasets, batch_size=41, steps_per_epoch=8, num_workers=0, seed=3)
    first = next(batch for batch in data.train_dataloader() if (batch["dataset"] == 1).all())
    assert len(first["image"][:, 0, 0, 0].unique()) == 41


def test_the_command_line_trains_on_shards(folders, tmp_path, monkeypatch):
    config = yaml.safe_load((ROOT / "tests" / "toy_mixture.yaml").read_text())
    config["data"]["class_path"] = "perceiver.data.mixture.streaming.StreamingMixture"
    config["data"]["init_args"]["datasets"] = {
        name: {
            "source": {
                "class_path": "perceiver.data.mixture.shards.Shards",
                "init_args": {"url": f"local:{folder}", "cache": str(tmp_path / "cache")},
            }
        }
        for name, folder in folders.items()
    }
    config["trainer"]["max_steps"] = 5
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main(["fit", "-c", str(tmp_path / "config.yaml"), "--run_dir", str(tmp_path / "run")]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {f"test/accuracy/{name}" for name in folders} <= metrics.keys() and math.isfinite(metrics["test/loss"])


def test_samples_that_cannot_be_decoded_are_refused_or_left_out_and_listed(tmp_path):
    with pytest.raises(ValueError, match=r"1 of 41 rows of the train split cannot be read.*row-(7|19) \(it is broken\)"):
        write_shards(ToyImages(bad=[7, 19]), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    write_shards(ToyImages(bad=[7, 19]), tmp_path / "some", splits=["train"], bad_samples=0.05)
    assert len(Shards(str(tmp_path / "some")).rows("train")) == 39
    left_out = json.loads((tmp_path / "some" / "dataset.json").read_text())["splits"]["train"]["left_out"]
    assert sorted(left_out) == [["row-19", "it is broken"], ["row-7", "it is broken"]]


def test_a_killed_writer_leaves_no_folder_and_the_next_one_starts_anew(tmp_path):
    (tmp_path / "images.part" / "train").mkdir(parents=True)
    (tmp_path / "images.part" / "train" / "chunk-0-17.bin").write_bytes(b"half")
    write_shards(ToyImages(), tmp_path / "images", splits=["train"])
    assert [file.name for file in tmp_path.rglob("*.bin")] == ["chunk-0-0.bin"]
    with pytest.raises(FileExistsError, match="is there already"):
        write_shards(ToyImages(), tmp_path / "images")


def changed(folder: Path, change) -> Shards:
    """The same shards with another list."""
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))
    return Shards(str(folder.parent))


def test_shards_of_others_are_refused_before_anything_of_them_is_read(tmp_path):
    write_shards(ToyImages(), tmp_path / "images", splits=["train"])
    train = tmp_path / "images" / "train"
    with pytest.raises(ValueError, match="is no shard of this folder"):
        changed(train, lambda index: index["chunks"][0].update(filename="../../outside.bin")).rows("train")
    with pytest.raises(ValueError, match=r"the shards hold \['pickle'\]"):
        changed(train, lambda index: index["config"].update(data_format=["pickle"])).rows("train")
    with pytest.raises(ValueError, match="does not say config, chunks"):
        changed(train, lambda index: index.pop("config")).rows("train")
    (train / "index.json").write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        Shards(str(tmp_path / "images")).rows("train")


DAMAGE = {
    "cut": lambda data: data[:-1],
    "other number": lambda data: bytes(4) + data[4:],
    "other places": lambda data: data[:8] + bytes(4) + data[12:],
    "longer": lambda data: data[: 4 + 4 * 41] + (len(data) + 1).to_bytes(4, "little") + data[8 + 4 * 41 :] + b"x",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_shard_that_is_not_the_one_that_was_written_is_an_error(tmp_path, damage):
    write_shards(ToyImages(), tmp_path / "images", splits=["train"])
    file = tmp_path / "images" / "train" / "chunk-0-0.bin"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(OSError, match="is not the shard of|chunk-0-0.bin is damaged: its SHA-256"):
        Shards(str(tmp_path / "images")).rows("train").row(0, DRAW)
    description = tmp_path / "images" / "dataset.json"
    content = json.loads(description.read_text())
    del content["splits"]["train"]["sha256"]  # as an older version wrote it
    description.write_text(json.dumps(content))
    with pytest.raises(OSError, match="is not the shard of"):
        Shards(str(tmp_path / "images")).rows("train").row(0, DRAW)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="but not in the folder"):
        Shards(str(tmp_path / "images")).rows("train").row(0, DRAW)


def test_what_is_not_there_is_said_with_its_address(tmp_path, pairs):
    with pytest.raises(FileNotFoundError, match="nowhere/dataset.json not found"):
        Shards(str(tmp_path / "nowhere")).rows("train")
    with pytest.raises(OSError, match=r"local:.*nowhere/dataset.json cannot be fetched"):
        Shards(f"local:{tmp_path / 'nowhere'}").rows("train")
    with pytest.raises(ValueError, match="url=http://x/y: give a path"):
        Shards("http://x/y")
    write_shards(ToyImages(), tmp_path / "images", splits=["val"])
    with pytest.raises(ValueError, match="has no train split, only val"):
        Shards(str(tmp_path / "images")).rows("train")
    far = Shards(f"local:{pairs}", cache=str(tmp_path)).rows("train")
    far.url = f"local:{tmp_path / 'gone'}"
    with pytest.raises(OSError, match=r"gone/chunk-0-0.bin cannot be fetched"):
        far.row(0, DRAW)


def test_a_shard_that_never_arrives_is_an_error_in_time(pairs, tmp_path):
    from filelock import FileLock

    rows = Shards(f"local:{pairs}", cache=str(tmp_path), timeout=0.1).rows("train")
    rows.folder.mkdir(parents=True)
    with FileLock(rows.folder / "chunk-0-0.bin.lock"), pytest.raises(OSError, match="has not arrived in 0.1 s"):
        rows.row(0, DRAW)


def test_without_litdata_the_error_says_how_to_install_it(pairs, tmp_path, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "litdata"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "litdata", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install perceiver-lightning\[streaming\]"):
        Shards(f"local:{pairs}").rows("train")
    with pytest.raises(ModuleNotFoundError, match=r"pip install perceiver-lightning\[streaming\]"):
        write_shards(ToyImages(), tmp_path / "images")
    assert len(Shards(str(pairs)).rows("train")) == 43  # what lies in a folder is read without it


@pytest.mark.parametrize(
    "wrong",
    [lambda f: write_shards(ToyImages(), f, chunk_bytes=0), lambda f: write_shards(ToyImages(), f, splits=[]), lambda f: Shards("x", timeout=0.0)],
)
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=": give"):
        wrong(tmp_path / "images")


def test_texts_keep_their_masks(folders):
    ours, theirs = Shards(str(folders["texts"])).rows("val"), ToyRows(29, make_text)
    assert all(identical(ours.row(i, DRAW), theirs.row(i, DRAW)) for i in range(29))


def test_a_split_without_rows_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="the train split has no rows that could be written"):
        write_shards(ToyImages(0), tmp_path / "images", splits=["train"], num_workers=0)
    assert not (tmp_path / "images").exists()
