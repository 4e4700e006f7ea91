"""A model starts from another's weights, part by part: what was wanted is there to the bit, what was not is as it was, or nothing is loaded."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import perceiver
from perceiver.models import MultitaskPerceiver
from perceiver.parts import chosen, part_of
from perceiver.pretrained.init_from import InitFrom, transfer
from perceiver.pretrained.load_table import LEFT, LOADED, NEW, RESIZED, UNUSED
from perceiver.tasks import Multitask
from tests.builders import CLASSES, DIM, small_encoder, small_perceiver, small_perceiver_io, three_adapters
from tests.pretrained.test_published import reference


def multitask(*adapters: str, tasks: dict[str, int], seed: int = 0) -> MultitaskPerceiver:
    torch.manual_seed(seed)
    known = three_adapters()
    model = MultitaskPerceiver({name: known[name] for name in adapters}, small_encoder(), perceiver.Decoder(13, DIM))
    for name, classes in tasks.items():
        model.add_task(name, perceiver.LearnedQueries(1, 13), nn.Linear(13, classes))
    return model


@pytest.fixture
def source(tmp_path):
    """A model of two modalities and two tasks, in a folder."""
    model = multitask("image", "text", tasks={"digits": 5, "topics": 7})
    model.save_pretrained(tmp_path / "source")
    return model, str(tmp_path / "source")


def equal(a: nn.Module, b: nn.Module, *parts: str) -> bool:
    """Whether all weights of some parts are equal, and there are any."""
    others = b.state_dict()
    names = [name for name in a.state_dict() if chosen(part_of(name), parts)]
    return bool(names) and all(name in others and torch.equal(a.state_dict()[name], others[name]) for name in names)


def outcomes(table) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part, outcome in table.outcomes():
        found.setdefault(outcome, set()).add(part)
    return found


def test_what_both_have_is_loaded_and_a_new_task_starts_anew(source):
    model, folder = source
    target = multitask("image", "audio", tasks={"digits": 5, "words": 3}, seed=1)
    before = multitask("image", "audio", tasks={"digits": 5, "words": 3}, seed=1)
    table = InitFrom(folder, new=["heads", "queries", "adapters.audio"])(target)
    assert equal(target, model, "encoder", "decoder", "adapters.image", "heads.digits", "queries.digits")
    assert equal(target, before, "adapters.audio", "heads.words", "queries.words")
    found = outcomes(table)
    assert found[NEW] == {"adapters.audio", "heads.words", "queries.words"}
    assert found[UNUSED] == {"adapters.text", "heads.topics", "queries.topics"}
    assert found[LOADED] == {"adapters.image", "cross_attends.0", "decoder", "heads.digits", "latents", "queries.digits", "stacks.0.0"}


def test_only_the_parts_that_are_asked_for_are_loaded(source):
    model, folder = source
    target, before = (multitask("image", "text", tasks={"digits": 5, "topics": 7}, seed=1) for _ in range(2))
    table = InitFrom(folder, load=["latents", "adapters.text"])(target)
    assert equal(target, model, "latents", "adapters.text")
    assert equal(target, before, "cross_attends", "stacks", "decoder", "adapters.image", "heads", "queries")
    assert outcomes(table)[LOADED] == {"latents", "adapters.text"} and "stacks.0.0" in outcomes(table)[LEFT]


def test_a_modality_of_another_name_is_taken_from_where_it_is_said_to_be(source):
    model, folder = source
    torch.manual_seed(1)
    target = MultitaskPerceiver({"photo": three_adapters()["image"]}, small_encoder(), perceiver.Decoder(13, DIM))
    InitFrom(folder, rename={"adapters.photo": "adapters.image"})(target)
    assert torch.equal(target.inputs.projections["photo"].weight, model.inputs.projections["image"].weight)
    with pytest.raises(ValueError, match=r"'adapters.image' cannot be renamed to 'latents': they must be of one kind"):
        InitFrom(folder, rename={"latents": "adapters.image"})(target)
    with pytest.raises(ValueError, match="'adapters.picture' is no part of this model, which has adapters.image, adapters.text"):
        InitFrom(folder, rename={"adapters.photo": "adapters.picture"})(target)


def test_what_the_source_lacks_is_an_error_unless_it_may_start_anew_and_then_nothing_is_loaded(source):
    _, folder = source
    target, before = (multitask("image", "audio", tasks={"digits": 5}, seed=1) for _ in range(2))
    with pytest.raises(
        ValueError, match=r"(?s)adapters.audio of the model cannot be loaded .*name such parts in `new`.*\nadapters.audio .* MISSING in the source"
    ):
        InitFrom(folder)(target)
    assert equal(target, before, "encoder", "adapters", "decoder", "heads")


def test_another_shape_is_an_error_unless_it_may_be_resized(source):
    _, folder = source
    target = MultitaskPerceiver(
        {"image": three_adapters()["image"]}, perceiver.Encoder(5, DIM, 11, self_block=nn.Identity), perceiver.Decoder(13, DIM)
    )
    with pytest.raises(ValueError, match=r"(?s)latents.*OF ANOTHER SHAPE: weight 3 x 14 -> 5 x 14"):
        InitFrom(folder, new=["cross_attends", "stacks"])(target)
    table = InitFrom(folder, new=["cross_attends", "stacks"], resize=["latents"])(target)
    assert outcomes(table)[RESIZED] == {"latents"}
    assert "weight 3 x 14 -> 5 x 14" in str(table)


def test_a_source_that_has_nothing_of_the_model_is_refused(source):
    with pytest.raises(ValueError, match="(?s)nothing of the model is in .*only in the source"):
        InitFrom(source[1], load=["heads"])(small_perceiver())


def test_a_part_that_the_model_does_not_have_is_refused(source):
    with pytest.raises(ValueError, match="'adapters.sound' is no part of this model"):
        InitFrom(source[1], load=["adapters.sound"])(small_perceiver_io())


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*", "ignore:.*does not have many workers.*")
def test_a_checkpoint_of_a_training_is_a_source(tmp_path):
    rows = [{"image": torch.rand(2, 6, 15), "target": torch.tensor(i % 5)} for i in range(7)]
    model = multitask("image", tasks={})
    task = Multitask(model, {"digits": {"task": "classification", "num_classes": 5}}, warmup_steps=1)
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer = L.Trainer(default_root_dir=tmp_path, max_steps=3, accelerator="cpu", **quiet)
    trainer.fit(task, DataLoader(rows, batch_size=3), DataLoader(rows, batch_size=3))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    target = multitask("image", tasks={"digits": 5}, seed=1)
    table = InitFrom(str(tmp_path / "last.ckpt"))(target)
    assert outcomes(table).keys() == {LOADED}
    assert all(torch.equal(a, b) for a, b in zip(target.state_dict().values(), model.state_dict().values(), strict=True))


@pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*", "ignore:.*does not have many workers.*")
def test_a_checkpoint_becomes_a_folder_and_a_folder_a_checkpoint_that_is_tested_alike(tmp_path):
    rows = DataLoader([{"image": torch.rand(2, 6, 15), "target": torch.tensor(i % 5)} for i in range(7)], batch_size=3)
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer = L.Trainer(default_root_dir=tmp_path, max_steps=3, accelerator="cpu", **quiet)
    tasks = {"digits": {"task": "classification", "num_classes": 5}}
    task = Multitask(multitask("image", tasks={}), tasks, warmup_steps=1)
    trainer.fit(task, rows, rows)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    (expected,) = trainer.test(task, rows, verbose=False)
    perceiver.from_pretrained(tmp_path / "last.ckpt").save_pretrained(tmp_path / "folder")
    again = perceiver.from_pretrained(tmp_path / "folder")
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), task.model.state_dict().values(), strict=True))
    perceiver.pretrained.save_checkpoint(again, tmp_path / "again.ckpt")
    other = Multitask(multitask("image", tasks={}, seed=1), tasks, warmup_steps=1)
    assert trainer.test(other, rows, ckpt_path=tmp_path / "again.ckpt", weights_only=True, verbose=False) == [expected]


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch evil",)


def test_a_checkpoint_with_code_in_it_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"model.head.weight": Evil()}}, "evil.ckpt")
    for load in (lambda: InitFrom("evil.ckpt")(small_perceiver()), lambda: perceiver.from_pretrained("evil.ckpt")):
        with pytest.raises(ValueError, match=r"evil\.ckpt is damaged, or holds more than weights"):
            load()
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_that_does_not_say_what_its_model_was_built_with_is_refused_and_told_what_to_do(tmp_path):
    torch.save({"state_dict": {"model.head.weight": torch.zeros(3)}}, tmp_path / "old.ckpt")
    with pytest.raises(ValueError, match=r"old\.ckpt does not say what its model was built with.*InitFrom"):
        perceiver.from_pretrained(tmp_path / "old.ckpt")


def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path):
    file = tmp_path / "last.ckpt"
    for content in ({"state_dict": {"weight": torch.zeros(3)}}, [1, 2], {"state_dict": {"model.head.weight": torch.full((3,), torch.nan)}}):
        torch.save(content, file)
        with pytest.raises(ValueError, match=r"last\.ckpt"):
            InitFrom(str(file))(small_perceiver())
    file.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged, or holds more than weights"):
        InitFrom(str(file))(small_perceiver())
    with pytest.raises(ValueError, match="there is no checkpoint"):
        InitFrom(str(tmp_path / "none.ckpt"))(small_perceiver())


def test_published_weights_are_a_source_with_the_semantics_that_are_asked_for(tmp_path):
    reference("fourier").save_pretrained(tmp_path)
    for semantics in ("hf", "deepmind"):
        published = perceiver.from_pretrained(tmp_path, semantics)
        head = nn.Linear(published.decoder.query_dim, 17)
        target = perceiver.from_pretrained(tmp_path, semantics)
        for parameter in target.parameters():
            nn.init.normal_(parameter)
        target.head = head
        table = InitFrom(str(tmp_path), semantics=semantics)(target)
        assert outcomes(table)[NEW] == {"heads"} and equal(target, published, "encoder", "decoder", "queries")


def test_the_table_names_each_part_with_its_numbers():
    target = small_perceiver_io()
    weights = {name: weight for name, weight in small_perceiver_io().state_dict().items() if not name.startswith("head")}
    table = str(transfer(target, weights | {"extra.weight": torch.zeros(2, 3)}, new=["heads"], source="somewhere"))
    lines = table.splitlines()
    assert lines[0] == "weights from somewhere"
    assert lines[1].split() == ["part", "weights", "numbers"]
    rows = {line.split()[0]: line.split(maxsplit=3)[1:] for line in lines[2:]}
    assert rows["heads"] == ["2", f"{13 * CLASSES + CLASSES}", "starts anew"]
    assert rows["latents"] == ["1", "42", "loaded"]
    assert rows["extra"] == ["1", "6", "only in the source"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"perceiver_model": {"class": "torch.nn.Linear", "args": {"in_features": 10**6, "out_features": 10**6}}},
            "a model that is larger than its weights",
        ),
        ({"perceiver_model": 5}, "describes no module"),
        ({"perceiver_origin": "elsewhere"}, "its origin is 'elsewhere', and no object"),
        ({"state_dict": {"model.weight": torch.zeros(3)}}, "this checkpoint is of another model"),
    ],
)
def test_a_checkpoint_whose_description_is_not_of_its_weights_is_refused(tmp_path, changes, said):
    file = tmp_path / "a.ckpt"
    perceiver.pretrained.save_checkpoint(small_perceiver(), file)
    torch.save(torch.load(file, weights_only=True) | changes, file)
    with pytest.raises(ValueError, match=rf"a\.ckpt: .*{said}"):
        perceiver.from_pretrained(file)
