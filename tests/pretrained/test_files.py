"""Published models from folders and back: bit for bit, and nothing from a file that is not what it says."""

import json
import pickle
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from perceiver.models.classifier import Classifier
from perceiver.pretrained.published import load_published, save_published
from tests.pretrained.test_published import CASES, answers, our_answers, reference


@pytest.fixture(scope="module", params=[case for case in CASES if "," not in case])
def case(request):
    return request.param


@pytest.fixture(scope="module")
def folder(case, tmp_path_factory):
    """What transformers wrote of a model of each class."""
    place = tmp_path_factory.mktemp("theirs")
    reference(case).save_pretrained(place)
    return place


def test_what_transformers_wrote_is_read_and_gives_its_numbers(case, folder):
    batch = CASES[case][2]()
    for key, value in answers(reference(case), batch).items():
        assert (our_answers(load_published(folder), batch)[key] - value).norm() < 1e-5 * value.norm()


@pytest.mark.parametrize("semantics", ["hf", "deepmind"])
def test_what_was_read_is_written_bit_for_bit(case, folder, semantics, tmp_path):
    model = load_published(folder, semantics)
    save_published(model, tmp_path)
    theirs, again = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert theirs.keys() == again.keys() and all(torch.equal(weight, again[name]) for name, weight in theirs.items())
    restored = getattr(transformers, CASES[case][0]).from_pretrained(tmp_path).eval()
    batch = CASES[case][2]()
    for key, value in answers(reference(case), batch).items():
        assert torch.allclose(answers(restored, batch)[key], value, rtol=1e-5)  # the weights are equal; memory may lie otherwise


def test_old_files_hold_tensors_alone(case, folder, tmp_path):
    shutil.copy(folder / "config.json", tmp_path)
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    expected = load_published(folder).state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in load_published(tmp_path).state_dict().items())


@pytest.fixture
def small(tmp_path):
    """A folder that can be spoilt."""
    reference("fourier").save_pretrained(tmp_path)
    return tmp_path


class Harmful:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_a_pickle_with_code_in_it_is_refused_and_does_not_run(small, capsys):
    (small / "model.safetensors").unlink()
    for write in (lambda file: pickle.dump({"a": Harmful()}, file, protocol=2), lambda file: torch.save({"a": Harmful()}, file)):
        with open(small / "pytorch_model.bin", "wb") as file:
            write(file)
        with pytest.raises(ValueError, match=r"pytorch_model.bin is damaged, or holds more than weights"):
            load_published(small)
    assert "never run" not in capsys.readouterr().out


def test_a_file_that_is_cut_short_anywhere_is_refused(small):
    file = small / "model.safetensors"
    content = file.read_bytes()
    for length in (0, 5, 8, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"model.safetensors is damaged"):
            load_published(small)


def spoil(small, change):
    weights = load_file(small / "model.safetensors")
    change(weights)
    save_file(weights, small / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w["perceiver.embeddings.latents"].view(-1)[3].fill_(float("nan")), "latents in .* holds NaN or infinity"),
        (lambda w: w.pop("perceiver.embeddings.latents"), r"1 weights missing \(encoder.latents.weight\)"),
        (lambda w: w.update(classifier=torch.zeros(2)), r"1 weights unknown \(classifier\)"),
        (lambda w: w.update({"perceiver.embeddings.latents": torch.zeros(5, 40)}), r"latents.weight: \(5, 40\) in the checkpoint, \(7, 40\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(small, change, said):
    spoil(small, change)
    with pytest.raises(ValueError, match=said):
        load_published(small)


def rewrite(small, **changes):
    file = small / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["os.system"]}, "'os.system' is none of the published Perceivers"),
        ({"architectures": ["PerceiverForOpticalFlow"]}, "weights missing"),
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"num_latents": "many"}, "config.json: "),
        ({"num_cross_attention_heads": 7}, "config.json: .* does not divide into heads=7"),
        ({"num_self_attends_per_block": 10**9}, "config.json: it describes a model that is larger than its weights"),
        ({"num_latents": 10**12}, "config.json: it describes a model that is larger than its weights"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(small, changes, said):
    rewrite(small, **changes)
    with pytest.raises(ValueError, match=said):
        load_published(small)


def test_a_folder_without_a_model_is_refused(tmp_path, small):
    with pytest.raises(ValueError, match="has no config.json"):
        load_published(tmp_path / "nowhere")
    (small / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds list, not an object"):
        load_published(small)
    (small / "config.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match="cannot be read"):
        load_published(small)


def test_a_model_from_elsewhere_is_not_written_as_a_published_one(tmp_path, small):
    model = load_published(small)
    assert isinstance(model, Classifier) and not model.training
    model.origin = None
    with pytest.raises(ValueError, match="Classifier was not loaded from a published model"):
        save_published(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()
