"""The published architectures: transformers' weights under our names give transformers' numbers."""

import re
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import perceiver.tokens
from perceiver.pretrained.architectures import ARCHITECTURES, PUBLISHED, architecture
from perceiver.pretrained.config import PublishedConfig
from perceiver.pretrained.semantics import semantics

PARAMETERS = {  # of the published files; the first is a test constant of krasserm/perceiver-io, too
    "deepmind/language-perceiver": 201_108_230,
    "deepmind/vision-perceiver-learned": 62_255_848,
    "deepmind/vision-perceiver-fourier": 48_440_627,
    "deepmind/vision-perceiver-conv": 48_646_522,
    "deepmind/optical-flow-perceiver": 41_057_134,
    "deepmind/multimodal-perceiver": 19_858_855,
}
SMALL = {
    "num_latents": 7,
    "d_latents": 40,
    "num_blocks": 2,
    "num_self_attends_per_block": 3,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 1,
    "num_labels": 11,
}


def pictures(rows: int, *size: int) -> dict[str, Tensor]:
    return {"image": torch.randn(rows, 3, *size)}


def texts() -> dict[str, Tensor]:
    return {"text": torch.randint(0, 262, (3, 23)), "text_mask": torch.arange(23) < torch.tensor([[23], [11], [0]])}


def clips(rows: int) -> dict[str, Tensor]:
    return {"image": torch.rand(rows, 5, 3, 12, 12), "audio": torch.rand(rows, 240, 1), "label": torch.rand(rows, 11)}


LANGUAGE = {"d_model": 24, "num_cross_attention_heads": 2, "qk_channels": 16, "v_channels": 40, "max_position_embeddings": 29}
VIDEO = {
    "image_size": 3,
    "num_frames": 5,
    "audio_samples_per_frame": 48,
    "samples_per_patch": 16,
    "output_shape": [1, 5, 12, 12],
    "output_num_channels": 13,
    "num_blocks": 1,
}
CASES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "language": ("PerceiverForMaskedLM", LANGUAGE, texts),
    "learned": ("PerceiverForImageClassificationLearned", {"image_size": 13}, lambda: pictures(2, 13, 13)),
    "fourier": ("PerceiverForImageClassificationFourier", {}, lambda: pictures(2, 16, 16)),
    "fourier, not square": ("PerceiverForImageClassificationFourier", {}, lambda: pictures(2, 11, 17)),
    "conv": ("PerceiverForImageClassificationConvProcessing", {}, lambda: pictures(2, 61, 67)),
    "flow": ("PerceiverForOpticalFlow", {"train_size": [11, 19]}, lambda: {"frames": torch.randn(2, 2, 27, 11, 19)}),
    "multimodal": ("PerceiverForMultimodalAutoencoding", VIDEO, lambda: clips(1)),
    "multimodal, two rows": ("PerceiverForMultimodalAutoencoding", VIDEO, lambda: clips(2)),
}
PLACES = {"image": torch.arange(103, 140), "audio": torch.arange(3, 10)}


def reference(case: str) -> nn.Module:
    """Transformers' class with random weights."""
    name, options, _ = CASES[case]
    torch.manual_seed(0)
    model = getattr(transformers, name)(transformers.PerceiverConfig(**SMALL | options)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    for buffer_name, buffer in model.named_buffers():
        if "running" in buffer_name:
            buffer.uniform_(0.5, 1.5)
    return model


def ours(case: str, theirs: nn.Module, which: str = "hf") -> nn.Module:
    """Our class with the same weights."""
    name = CASES[case][0]
    config = PublishedConfig.read(theirs.config.to_dict() | {"architectures": [name]})
    model = architecture(name).build(config, semantics(which)).eval()
    names = architecture(name).names(config)
    model.load_state_dict({names[key]: weight for key, weight in theirs.state_dict().items()})
    return model


def answers(theirs: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What transformers' class says, by modality."""
    with torch.no_grad():
        if "label" in batch:
            return theirs(inputs=batch, subsampled_output_points=PLACES | {"label": None}).logits
        entry, *mask = batch.values()
        return {"": theirs(inputs=entry, attention_mask=mask[0].float() if mask else None).logits}


def our_answers(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(batch, PLACES) if "label" in batch else {"": model(batch)}


def to(batch: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("large_grid", [1, 10**9], ids=["in parts", "joined"])
def test_the_numbers_are_those_of_transformers(case, dtype, tolerance, large_grid, monkeypatch):
    monkeypatch.setattr(perceiver.tokens, "LARGE_GRID", large_grid)
    theirs = reference(case)
    model, batch = ours(case, theirs).to(dtype), to(CASES[case][2](), dtype)
    expected, found = answers(theirs.to(dtype), batch), our_answers(model, batch)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == value.shape
        for row, wanted in zip(found[key], value, strict=True):  # row by row: a text of nothing but padding, too
            assert (row - wanted).norm() < tolerance * wanted.norm()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_of_published_size_has_every_weight_and_no_other(name):
    config = PUBLISHED[name]
    numbers = {key: value for key, value in asdict(config).items() if key != "architecture"}
    with torch.device("meta"):
        theirs = getattr(transformers, config.architecture)(transformers.PerceiverConfig(**numbers))
        model = architecture(config.architecture).build(config, semantics("hf"))
    names, expected, state = architecture(config.architecture).names(config), theirs.state_dict(), model.state_dict()
    assert set(names) == set(expected) and set(names.values()) == set(state) and len(names) == len(state)
    assert {key: state[name].shape for key, name in names.items()} == {key: weight.shape for key, weight in expected.items()}
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters()) == PARAMETERS[name]


def test_the_table_holds_every_architecture():
    assert {config.architecture for config in PUBLISHED.values()} == set(ARCHITECTURES)
    with pytest.raises(ValueError, match="'PerceiverForTea' is none of the published Perceivers: PerceiverForMaskedLM, "):
        architecture("PerceiverForTea")
    with pytest.raises(ValueError, match="semantics='jax': choose one of hf, deepmind"):
        semantics("jax")


def test_the_activations_differ_a_little_and_nothing_else_does():
    theirs, batch = reference("fourier"), pictures(2, 16, 16)
    hf, deepmind = (our_answers(ours("fourier", theirs, which), batch)[""] for which in ("hf", "deepmind"))
    assert 0 < (hf - deepmind).abs().max() < 1e-2
    switched = ours("fourier", theirs, "deepmind")
    for module in switched.modules():
        if isinstance(module, nn.GELU):
            module.approximate = "none"
    assert torch.equal(our_answers(switched, batch)[""], hf)


def test_deepminds_stem_makes_56_places_of_224_pixels_and_transformers_55():
    theirs, picture = reference("conv"), torch.randn(1, 3, 224, 224)
    for which, places in (("hf", 55), ("deepmind", 56)):
        assert ours("conv", theirs, which).inputs.adapters["image"](picture).grid == (places, places)


def test_deepminds_learned_classifier_adds_no_query():
    theirs, batch = reference("learned"), pictures(2, 13, 13)
    deepmind = ours("learned", theirs, "deepmind")
    before = our_answers(deepmind, batch)[""]
    with torch.no_grad():
        read = deepmind.decoder.cross.attention(
            deepmind.decoder.cross.norm_x(deepmind.queries({}, 2)), deepmind.decoder.cross.norm_context(deepmind.encoder(*deepmind.inputs(batch)))
        )
        answer = read + deepmind.decoder.cross.mlp(deepmind.decoder.cross.norm_mlp(read))
        assert torch.allclose(deepmind.head(answer)[:, 0], before, atol=1e-5)


def test_a_text_of_nothing_but_padding_is_read_by_transformers_and_not_by_deepmind():
    theirs, batch = reference("language"), texts()
    other = batch | {"text": batch["text"].index_fill(0, torch.tensor([2]), 77)}
    for which, same in (("hf", False), ("deepmind", True)):
        model = ours("language", theirs, which)
        before, after = our_answers(model, batch)[""], our_answers(model, other)[""]
        assert torch.equal(before[2], after[2]) is same and torch.isfinite(before).all()
        assert torch.equal(before[:2], after[:2])


def test_a_looped_block_is_the_same_layers_again_and_its_gradients_add_up():
    theirs, batch = reference("fourier"), pictures(2, 7, 5)
    looped = ours("fourier", theirs)
    config = PublishedConfig.read(theirs.config.to_dict() | {"architectures": [CASES["fourier"][0]]})
    config = replace(config, num_blocks=1, num_self_attends_per_block=6)
    unrolled = architecture(config.architecture).build(config, semantics("hf")).eval()
    state = looped.state_dict()
    again = {key: re.sub(r"stacks\.0\.([345])", lambda found: f"stacks.0.{int(found[1]) - 3}", key) for key in unrolled.state_dict()}
    unrolled.load_state_dict({key: state[name] for key, name in again.items()})
    assert torch.allclose(looped(batch), unrolled(batch), atol=1e-6)
    for model in (looped, unrolled):
        model(batch).square().sum().backward()
    for layer in range(3):
        first, second = (unrolled.get_parameter(f"encoder.stacks.0.{i}.mlp.0.weight").grad for i in (layer, layer + 3))
        assert torch.allclose(looped.get_parameter(f"encoder.stacks.0.{layer}.mlp.0.weight").grad, first + second, rtol=1e-4, atol=1e-5)


def test_learned_positions_stretch_to_another_size_and_stay_at_their_own():
    theirs = reference("learned")
    positions = ours("learned", theirs).inputs.adapters["image"].positions
    table = theirs.perceiver.input_preprocessor.position_embeddings
    for size in ((13, 13), (7, 13), (17, 19)):
        with torch.no_grad():
            wanted = theirs.perceiver.input_preprocessor.positions_projection(table.interpolate_pos_encoding(table.position_embeddings, *size))
            assert torch.allclose(positions(size).dense(), wanted, atol=1e-5)


def test_a_video_is_written_whole_as_it_is_in_parts_and_in_the_form_that_it_came_in():
    model, batch = ours("multimodal", reference("multimodal")), clips(2)
    with torch.no_grad():
        whole = model(batch)
        model.chunk_size = 37
        latents = model.encode(batch)
        parts = model.decode(latents)
        some = model(batch, PLACES)
    assert {key: value.shape for key, value in whole.items()} == {key: value.shape for key, value in batch.items()}
    flat = whole["image"].permute(0, 1, 3, 4, 2).flatten(1, 3)
    sounds = some["audio"], whole["audio"][:, 3 * 16 : 10 * 16, 0]
    for found, expected in ((parts["image"], flat), (some["image"], flat[:, PLACES["image"]]), sounds):
        assert (found - expected).norm() < 1e-5 * expected.norm()


def test_a_hidden_label_is_not_seen():
    model, batch = ours("multimodal", reference("multimodal")), clips(2)
    with torch.no_grad():
        assert torch.equal(model.encode(batch), model.encode(batch | {"label": torch.zeros_like(batch["label"])}))
        model.inputs.adapters["label"].hidden = 0.0
        assert not torch.equal(model.encode(batch), model.encode(batch | {"label": torch.zeros_like(batch["label"])}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"model_type": "perceiver"}, "it must name the one class"),
        ({"model_type": "perceiver", "architectures": ["PerceiverForMaskedLM"], "hidden_act": "relu"}, "hidden_act is 'relu'"),
    ],
)
def test_a_configuration_of_something_else_is_refused(content, said):
    with pytest.raises(ValueError, match=said):
        PublishedConfig.read(content)
