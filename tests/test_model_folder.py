"""A model in a folder: what was saved is what is loaded, and what is not whole is not loaded at all."""

import contextlib
import copy
import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import perceiver
from perceiver.models import MultitaskPerceiver, Perceiver, PerceiverIO
from perceiver.queries import LearnedQueries
from tests.builders import MODELS, raw_entries, small_encoder, small_perceiver, small_perceiver_io, three_adapters, without_shape_checks
from tests.pretrained.test_published import CASES, our_answers, reference


@pytest.fixture
def folder(tmp_path):
    """A small model's, that can be spoilt."""
    small_perceiver().save_pretrained(tmp_path)
    return tmp_path


def change_config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("name", MODELS)
def test_what_was_saved_gives_the_same_numbers_bit_for_bit(name, tmp_path):
    model = MODELS[name]().eval()
    model.save_pretrained(tmp_path)
    again = perceiver.from_pretrained(tmp_path)
    batch = raw_entries()
    assert not again.training
    assert torch.equal(again(batch), model(batch))


@pytest.mark.parametrize("whose", ["hf", "deepmind"])
@pytest.mark.parametrize("case", [case for case in CASES if "," not in case])
def test_a_published_model_keeps_its_semantics_and_can_still_go_back_to_transformers(case, whose, tmp_path):
    folders = [tmp_path / name for name in ("theirs", "ours", "back")]
    reference(case).save_pretrained(folders[0])
    model, batch = perceiver.from_pretrained(folders[0], whose), CASES[case][2]()
    model.save_pretrained(folders[1])
    again = perceiver.from_pretrained(folders[1])
    for key, value in our_answers(model, batch).items():
        assert torch.equal(our_answers(again, batch)[key], value)
    perceiver.pretrained.save_published(again, folders[2])
    before, after = (load_file(folder / "model.safetensors") for folder in (folders[0], folders[2]))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    with pytest.raises(ValueError, match=f"was saved with semantics '{whose}', which cannot be changed"):
        perceiver.from_pretrained(folders[1], "deepmind" if whose == "hf" else "hf")


def test_tasks_that_were_added_are_saved(tmp_path):
    model = MultitaskPerceiver(three_adapters(), small_encoder(), perceiver.Decoder(13, 14)).eval()
    for task, outputs in (("colour", 3), ("place", 5)):
        model.add_task(task, LearnedQueries(1, 13), nn.Linear(13, outputs))
    model.save_pretrained(tmp_path)
    batch = raw_entries() | {"dataset": torch.tensor([0, 1, 1, 0, 1])}
    again = perceiver.from_pretrained(tmp_path)
    assert list(again.readouts) == ["colour", "place"]
    assert all(torch.equal(value, again(batch)[task]) for task, value in model(batch).items())


def test_weights_keep_their_type(tmp_path):
    small_perceiver().bfloat16().save_pretrained(tmp_path)
    assert {weight.dtype for weight in perceiver.from_pretrained(tmp_path).parameters()} == {torch.bfloat16}


def test_a_class_reads_its_own_models_and_says_what_another_is(folder):
    assert isinstance(Perceiver.from_pretrained(folder), Perceiver)
    with pytest.raises(ValueError, match=r"holds a Perceiver, not a PerceiverIO: use perceiver\.from_pretrained"):
        PerceiverIO.from_pretrained(folder)


def test_the_model_card_says_what_it_reads_and_how_it_is_loaded(folder):
    card = (folder / "README.md").read_text()
    assert "A `Perceiver` of [perceiver-lightning]: reads image, audio, text." in card
    assert "perceiver.from_pretrained(" in card and "library_name: perceiver-lightning" in card


def test_a_model_card_that_was_written_by_hand_stays(folder):
    (folder / "README.md").write_text("mine")
    small_perceiver().save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"


def test_a_model_whose_description_does_not_make_it_again_is_not_saved(tmp_path):
    model = small_perceiver()
    model.norm = nn.LayerNorm(3)
    with pytest.raises(ValueError, match=r"Perceiver was changed after it was built.*2 of another shape \(norm.bias"):
        model.save_pretrained(tmp_path / "new")
    assert not list((tmp_path / "new").glob("*"))


def test_a_model_with_code_of_its_own_is_not_saved_and_is_told_why(tmp_path):
    model = small_perceiver()
    model.head = nn.Bilinear(2, 3, 5)
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Bilinear cannot be described"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("byte", [3, 200, -5])
def test_a_flipped_bit_anywhere_in_the_weights_is_found(folder, byte):
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: its SHA-256"):
        perceiver.from_pretrained(folder)


def test_a_truncated_file_is_found(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(ValueError, match="is damaged"):
        perceiver.from_pretrained(folder)


def rewrite(folder: Path, change) -> None:
    """Other weights, with the right checksum."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    change_config(folder, sha256=perceiver.model_folder.checksum(folder / "model.safetensors"))


def spoil_norm(weights) -> None:
    weights["norm.weight"][4] = torch.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil_norm, "norm.weight in .* holds NaN"),
        (lambda weights: weights.pop("norm.bias"), r"1 weights missing \(norm.bias\)"),
        (lambda weights: weights.update(extra=torch.zeros(3)), r"1 weights unknown \(extra\)"),
        (lambda weights: weights.update({"norm.bias": torch.zeros(3)}), r"norm.bias: \(3,\) in the checkpoint, \(14,\) in the model"),
        (lambda weights: weights.update({"norm.bias": torch.zeros(14, dtype=torch.int32)}), "norm.bias is torch.int32, and a weight is"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        perceiver.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "has version 2 of this format, and this library reads up to 1: update perceiver-lightning"),
        ({"format_version": "1; rm"}, "has version"),
        ({"format": "tea"}, "model_type is None"),
        ({"model": {"class": "os.system", "args": {"command": "true"}}}, "'os.system' is no part of this library"),
        ({"model": {"class": "/tmp/evil.py:Model", "args": {}}}, "is no part of this library"),
        ({"model": 5}, "describes no module"),
        ({"model": {"class": "torch.nn.Linear", "args": {"in_features": 10**12, "out_features": 10**6}}}, "config.json: "),
        ({"model": {"class": "perceiver.models.perceiver.Perceiver", "args": {}}}, "cannot be built from this description"),
        ({"origin": "hf"}, "its origin is 'hf', and no object"),
    ],
)
def test_a_configuration_that_is_not_what_it_says_is_refused(folder, changes, message):
    change_config(folder, **changes)
    with pytest.raises(ValueError, match=message):
        perceiver.from_pretrained(folder)


@pytest.mark.timeout(100)
@pytest.mark.parametrize(
    "place",
    ["encoder.args.num_layers", "encoder.args.num_latents", "encoder.args.dim", "adapters.text.args.max_length", "adapters.audio.args.sample_rate"],
)
def test_a_configuration_that_asks_for_more_than_any_machine_has_is_refused_before_it_gets_it(folder, place):
    """No folder from elsewhere fills the memory, or builds blocks until tomorrow."""
    model = json.loads((folder / "config.json").read_text())["model"]
    *within, last = place.split(".")
    arguments = model["args"]
    for word in within:
        arguments = arguments[word]
    arguments[last] = 2 * 10**9
    change_config(folder, model=model)
    with pytest.raises(ValueError, match=r"config\.json: it describes a model that is larger than its weights"):
        perceiver.from_pretrained(folder)


def places_in(content, place=()):
    """The path of everything in a configuration."""
    yield place
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places_in(content[key], (*place, key))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")  # PyTorch's, before the weights are compared
@pytest.mark.parametrize("value", [None, -1, 0, 3.5, "x", [1, 2], {}, {"name": "torch.nn.GELU"}, {"class": "torch.nn.Linear", "args": [3]}])
def test_whatever_stands_anywhere_in_a_configuration_it_is_read_or_refused(folder, value):
    content = json.loads((folder / "config.json").read_text())
    for *within, last in list(places_in(content["model"]))[1:]:
        changed = copy.deepcopy(content)
        place = changed["model"]
        for key in within:
            place = place[key]
        place[last] = value
        (folder / "config.json").write_text(json.dumps(changed))
        with without_shape_checks(), contextlib.suppress(ValueError):
            perceiver.from_pretrained(folder)


def test_a_configuration_nested_without_end_is_refused(folder):
    (folder / "config.json").write_text('{"model": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        perceiver.from_pretrained(folder)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(perceiver.hub, "hf_hub_download", lambda *args, **kwargs: pytest.fail("asked the hub"))
    for name in (tmp_path / "none", "./none", "/none/at/all", "https://example.org/model", "a/b/c"):
        with pytest.raises(ValueError, match="there is no folder"):
            perceiver.from_pretrained(name)


def test_without_network_a_name_on_the_hub_is_refused_in_one_line(monkeypatch):
    def unreachable(*args, **kwargs):
        raise huggingface_hub.errors.LocalEntryNotFoundError("cannot reach the hub\nlong advice")

    monkeypatch.setattr(perceiver.hub, "hf_hub_download", unreachable)
    with pytest.raises(ValueError, match=r"no model someone/model could be fetched from the hub: cannot reach the hub$"):
        perceiver.from_pretrained("someone/model")


def test_of_a_name_on_the_hub_three_files_at_most_are_fetched(folder, monkeypatch):
    asked = []

    def download(name, file, **options):
        asked.append((name, file, options))
        if not (folder / file).is_file():
            raise huggingface_hub.errors.EntryNotFoundError(file)
        return str(folder / file)

    monkeypatch.setattr(perceiver.hub, "hf_hub_download", download)
    perceiver.from_pretrained("someone/model", revision="v2")
    assert asked == [("someone/model", file, {"revision": "v2"}) for file in ("config.json", "model.safetensors")]
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    change_config(folder, sha256=perceiver.model_folder.checksum(folder / "pytorch_model.bin"))
    perceiver.from_pretrained("someone/model")
    assert asked[-1][1] == "pytorch_model.bin"


def test_push_to_hub_uploads_the_folder_that_save_pretrained_writes(monkeypatch):
    sent = {}

    class Hub:
        def __init__(self, **options):
            pass

        def create_repo(self, repo_id, **options):
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, repo_id, folder_path, **options):
            sent[repo_id] = {file.name for file in Path(folder_path).iterdir()}
            return perceiver.from_pretrained(folder_path)

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", Hub)
    model = small_perceiver_io().eval()
    assert torch.equal(model.push_to_hub("someone/model")(batch := raw_entries()), model(batch))
    assert sent == {"someone/model": {"config.json", "model.safetensors", "README.md"}}
