"""The same model with other numbers, and with modalities more or less: what stays is the same to the bit."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import perceiver
from perceiver.adapters import Adapter, AudioPatches, ImagePatches, TextBytes
from perceiver.blocks import recompute
from perceiver.positions import stretched
from perceiver.pretrained.load_table import NEW, RESIZED
from perceiver.pretrained.rebuild import rebuild
from perceiver.pretrained.resize import stretch_row
from perceiver.tokens import Tokens
from tests.builders import BYTES, CLASSES, LATENTS, MODELS, gradients, raw_entries, small_perceiver, small_perceiver_io
from tests.pretrained.test_published import CASES, our_answers, ours, reference


@pytest.mark.parametrize("name", MODELS)
def test_rebuilt_with_nothing_changed_is_the_same_model(name):
    model = MODELS[name]().eval()
    again, table = rebuild(model, {})
    assert torch.equal(again(raw := raw_entries()), model(raw)) and {outcome for _, outcome in table.outcomes()} == {"loaded"}
    assert not again.training and rebuild(model.train(), {})[0].training


def test_more_latents_keep_those_that_there_were_and_fewer_the_first():
    model = small_perceiver()
    more, table = rebuild(model, {"encoder.num_latents": LATENTS + 2})
    assert torch.equal(more.encoder.latents.weight[:LATENTS], model.encoder.latents.weight)
    assert more.encoder.latents.weight[LATENTS:].abs().sum() > 0
    assert ("latents", RESIZED) in table.outcomes() and "weight 3 x 14 -> 5 x 14" in str(table)
    fewer, _ = rebuild(model, {"encoder.num_latents": 1})
    assert torch.equal(fewer.encoder.latents.weight, model.encoder.latents.weight[:1])


def test_a_longer_text_has_its_places_between_those_that_were_learned():
    model = small_perceiver()
    longer, _ = rebuild(model, {"adapters.text.max_length": 2 * BYTES - 1})
    before, after = (m.inputs.adapters["text"].positions.weight for m in (model, longer))
    assert torch.allclose(after[::2], before, atol=1e-6)
    assert torch.allclose(after[1::2], (before[1:] + before[:-1]) / 2, atol=1e-6)
    assert longer({"text": torch.randint(6, 262, (2, 2 * BYTES - 1))}).shape == (2, CLASSES)


def test_a_learned_grid_is_stretched_as_it_would_be_for_a_picture_of_that_size():
    model = ours("learned", reference("learned")).eval()
    picture = {"image": torch.randn(2, 3, 19, 19)}
    stretched, table = rebuild(model, {"adapters.image.positions.size": (19, 19)})
    assert ("adapters.image", RESIZED) in table.outcomes()
    assert torch.allclose(our_answers(stretched, picture)[""], our_answers(model, picture)[""], atol=1e-5)


def test_a_picture_of_another_resolution_needs_no_weights():
    model = small_perceiver()
    finer, table = rebuild(model, {"adapters.image.size": (12, 30)})
    assert {outcome for _, outcome in table.outcomes()} == {"loaded"}
    assert finer({"image": torch.rand(2, 2, 12, 30)}).shape == (2, CLASSES)


def test_other_classes_start_anew_and_all_else_stays():
    model = small_perceiver_io()
    other, table = rebuild(model, {"head.out_features": 23})
    assert {part for part, outcome in table.outcomes() if outcome == NEW} == {"heads"}
    assert other.head.weight.shape == (23, 13) and torch.equal(other.decoder.cross.norm_x.weight, model.decoder.cross.norm_x.weight)
    classifier, _ = rebuild(ours("fourier", reference("fourier")), {"num_classes": 5})
    assert our_answers(classifier, CASES["fourier"][2]())[""].shape == (2, 5)


def test_options_that_save_memory_change_no_number():
    model = small_perceiver_io()
    frugal, _ = rebuild(model, {"encoder.run_block": recompute, "decoder.chunk_size": 1})
    raw = raw_entries()
    for one in (model, frugal):
        one(raw).square().sum().backward()
    assert all(torch.allclose(grad, gradients(frugal)[name], atol=1e-5) for name, grad in gradients(model).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder.latents": 5}, "'encoder.latents' leads nowhere: encoder has num_latents, dim"),
        ({"width": 5}, "'width' leads nowhere: Perceiver has adapters, encoder, head"),
        ({"adapters.touch.size": 5}, "leads nowhere: touch has no arguments"),
        ({"encoder.dim": 28}, "OF ANOTHER SHAPE"),
        ({"encoder.num_layers": 2}, "(?s)stacks.0.1 of the model cannot be loaded .*MISSING"),
        ({"encoder.num_latents": object()}, "cannot be described"),
    ],
)
def test_changes_that_cannot_be_made_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        rebuild(small_perceiver(), changes)


class Touch(Adapter):
    """A modality of the test's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.feature_dim, self.position_dim = width, 0
        self.linear = nn.Linear(1, width)

    def forward(self, payload, mask=None):
        return Tokens(self.linear(payload[..., None]), payload.shape[1:], mask=mask)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"LateFusion", "MeanPool"}))
def test_without_the_new_modality_all_is_as_before_to_the_bit_and_with_it_it_is_not(name):
    model, raw = MODELS[name]().eval(), raw_entries()
    before = model(raw)
    model.add_modality("touch", Touch(3))
    assert torch.equal(model(raw), before)
    touched = raw | {"touch": torch.rand(2, 7), "touch_present": torch.tensor([True, False, True, False, False])}
    with torch.no_grad():
        model.inputs.projections["touch"].weight.mul_(10)
    after = model(touched)
    assert not torch.allclose(after[0], before[0]) and torch.allclose(after[1], before[1], atol=1e-5)
    model.remove_modality("touch")
    assert torch.equal(model(raw), before) and not any("touch" in key for key in model.state_dict())


@pytest.mark.parametrize("case", ["language", "fourier", "flow", "multimodal"])
def test_a_published_model_reads_another_modality_and_is_saved_with_it(case, tmp_path):
    model, batch = ours(case, reference(case)).eval(), CASES[case][2]()
    before = our_answers(model, batch)
    model.add_modality("sound", AudioPatches(50, 1.3, patch=5, num_bands=3))
    assert all(torch.equal(our_answers(model, batch)[key], value) for key, value in before.items())
    rows = len(next(iter(batch.values())))
    heard = batch | {"sound": torch.rand(rows, 1, 65)}
    after = our_answers(model, heard)
    model.save_pretrained(tmp_path)
    again = our_answers(perceiver.from_pretrained(tmp_path), heard)
    for key, value in after.items():
        assert torch.equal(again[key], value) and not torch.equal(value, before[key])


def test_a_published_model_with_another_modality_is_none_of_transformers(tmp_path):
    reference("fourier").save_pretrained(tmp_path / "theirs")
    model = perceiver.from_pretrained(tmp_path / "theirs")
    model.add_modality("sound", AudioPatches(50, 1.3, patch=5, num_bands=3))
    with pytest.raises(ValueError, match=r"this is no Perceiver.* any more: .*inputs.projections.sound.*Write it with save_pretrained"):
        perceiver.pretrained.save_published(model, tmp_path / "again")


@pytest.mark.parametrize("name", ["LateFusion", "MeanPool"])
def test_controls_keep_their_modalities(name):
    for change in (lambda model: model.add_modality("touch", Touch(3)), lambda model: model.remove_modality("text")):
        with pytest.raises(ValueError, match=f"the shape of {name} depends on its modalities"):
            change(MODELS[name]())


def test_names_of_modalities_are_checked():
    model = small_perceiver()
    with pytest.raises(ValueError, match="there is an adapter for 'text' already"):
        model.add_modality("text", TextBytes(7))
    with pytest.raises(ValueError, match="'touch' cannot be removed: this model reads image, audio, text"):
        model.remove_modality("touch")
    model.remove_modality("text")
    model.remove_modality("audio")
    with pytest.raises(ValueError, match="must read at least one"):
        model.remove_modality("image")


def test_an_adapter_of_the_common_width_needs_no_map_in_a_published_model():
    model = ours("fourier", reference("fourier"))
    model.add_modality("touch", Touch(model.encoder.context_dim))
    model.add_modality("photo", ImagePatches(1, (4, 6), patch=2))
    assert list(model.inputs.projections) == ["photo"]


def test_the_stretched_table_is_the_identity_at_its_own_size():
    table = torch.randn(35, 3)
    assert torch.allclose(stretched(table, (5, 7), (5, 7)), table, atol=1e-6)
    assert torch.allclose(stretch_row(nn.Identity(), table, table), table, atol=1e-6)
    assert F.mse_loss(stretched(table, (5, 7), (10, 14)).mean(0), table.mean(0)) < 0.1
