"""The published models are trained: losses are those of transformers or of the paper, some places stand for all, and each learns what it sees."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from perceiver.adapters import ModalityDropout
from perceiver.description import build, describe
from perceiver.pretrained.entries import frame_entries
from perceiver.pretrained.rebuild import rebuild
from perceiver.tasks import Autoencoding, Classification, FlowEstimation, MaskedLanguage, MicroBatches
from perceiver.tasks.autoencoding import means, psnr, snr
from perceiver.tasks.flow_estimation import mean_length
from tests.builders import gradients
from tests.pretrained.test_published import CASES, clips, ours, reference, texts

pytestmark = [  # Lightning's, about its own code and about machines with more cores
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


def masked_texts() -> dict[str, torch.Tensor]:
    batch = texts()
    asked = batch["text_mask"] & (torch.rand(batch["text"].shape) < 0.3)
    asked[0, 0] = True
    return batch | {"text_target": torch.where(asked, batch["text"].clamp_min(1), 0)}


def frames_and_flow() -> dict[str, torch.Tensor]:
    first, second = torch.randint(0, 256, (2, 2, 3, 11, 19), dtype=torch.uint8)
    movement = torch.tensor([0.5, -0.3]) + 0.1 * torch.randn(2, 11, 19, 2)
    return frame_entries(first, second) | {"flow": movement, "flow_valid": torch.rand(2, 11, 19) < 0.5}


def labelled_clips() -> dict[str, torch.Tensor]:
    return clips(2) | {"label": torch.nn.functional.one_hot(torch.tensor([3, 7]), 11).float()}


def labelled_pictures() -> dict[str, torch.Tensor]:
    return CASES["fourier"][2]() | {"target": torch.tensor([3, 7])}


class ElevenClasses(Classification):
    def __init__(self, model, **training):
        super().__init__(model, 11, **training)


TASKS = {
    "language": (MaskedLanguage, masked_texts, "val/loss"),
    "flow": (FlowEstimation, frames_and_flow, "val/end_point_error"),
    "multimodal": (Autoencoding, labelled_clips, "val/loss"),
    "fourier": (ElevenClasses, labelled_pictures, "val/loss"),
}


def fit(task, batch, tmp_path, steps):
    """The figures before and after some steps on one batch."""
    data = DataLoader([batch] * 5, batch_size=None)
    options = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0)
    trainer = L.Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=steps, log_every_n_steps=1, **options)
    (before,) = trainer.validate(task, data, verbose=False)
    trainer.fit(task, data, data)
    (after,) = trainer.validate(task, data, verbose=False)
    return before, after


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.slow) if case == "multimodal" else case for case in TASKS])
def test_each_published_model_learns_what_it_sees(case, tmp_path):
    torch.manual_seed(0)
    make, batch, figure = TASKS[case]
    model = ours(case, reference(case))
    for parameter in model.parameters():
        parameter.data *= 0.5
    before, after = fit(make(model, warmup_steps=2, learning_rate=3e-3), batch(), tmp_path, 25)
    assert after[figure] < 0.9 * before[figure]


def test_the_loss_on_masked_bytes_is_that_of_transformers():
    theirs, batch = reference("language"), masked_texts()
    model = ours("language", theirs)
    labels = torch.full((3, 29), -100)
    labels[:, :23] = batch["text_target"].masked_fill(batch["text_target"] == 0, -100)
    expected = theirs(inputs=batch["text"], attention_mask=batch["text_mask"].float(), labels=labels).loss
    assert MaskedLanguage(model).train_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_class_loss_is_that_of_transformers():
    theirs, batch = reference("fourier"), labelled_pictures()
    expected = theirs(inputs=batch["image"], labels=batch["target"]).loss
    task = ElevenClasses(ours("fourier", theirs))
    assert task.loss(task(batch), batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_only_pixels_whose_movement_is_known_count():
    batch = frames_and_flow()
    task = FlowEstimation(ours("flow", reference("flow")).eval())
    found = (task(batch) - batch["flow"]).square().sum(-1).sqrt()
    assert task.end_point_error(batch).item() == pytest.approx(found[batch["flow_valid"]].mean().item(), rel=1e-5)
    spoilt = batch | {"flow": torch.where(batch["flow_valid"][..., None], batch["flow"], torch.nan)}
    task.end_point_error(spoilt).backward()
    assert all(torch.isfinite(grad).all() for grad in gradients(task).values())


def test_who_says_that_nothing_moves_errs_by_the_length_of_the_valid_movements():
    batch = frames_and_flow()
    moved = mean_length(batch["flow"], batch["flow_valid"])
    assert moved.item() == pytest.approx(batch["flow"][batch["flow_valid"]].norm(dim=-1).mean().item(), rel=1e-5)
    assert mean_length(torch.zeros(2, 11, 19, 2), None) == mean_length(batch["flow"], torch.zeros(2, 11, 19, dtype=torch.bool)) == 0


def test_places_that_are_drawn_stand_for_all():
    """With every place drawn, in any order, loss and gradients are those of writing everything."""
    batch = labelled_clips()
    found = {}
    for name, places in (("all", None), ("drawn", {"image": 720, "audio": 15})):
        model = ours("multimodal", reference("multimodal"))
        if places:
            places = {key: model.queries[key].num_places for key in places}
        task = Autoencoding(model, places=places)
        torch.manual_seed(3)
        loss = task.total(task.losses(batch, task.draw()))
        loss.backward()
        found[name] = loss.item(), gradients(model)
    assert found["drawn"][0] == pytest.approx(found["all"][0], rel=1e-4)
    assert found["all"][1].keys() == found["drawn"][1].keys()
    assert all(torch.allclose(grad, found["drawn"][1][key], rtol=1e-3, atol=1e-6) for key, grad in found["all"][1].items())


def test_few_places_are_drawn_anew_in_each_step():
    task = Autoencoding(ours("multimodal", reference("multimodal")), places={"image": 7})
    first, second = task.draw()["image"], task.draw()["image"]
    assert len(first) == len(set(first.tolist())) == 7 and not torch.equal(first, second)


def test_a_clip_without_a_label_is_no_error_in_the_label():
    batch = labelled_clips()
    batch["label"][1] = 0
    task = Autoencoding(ours("multimodal", reference("multimodal")).eval())
    written = task(batch)
    expected = -written["label"].log_softmax(1)[0, 3]
    assert task.compare(written, batch, {})["label"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert "label" not in task.compare(written, batch | {"label": torch.zeros(2, 11)}, {})


def test_psnr_is_the_ratio_of_range_to_error():
    true = torch.zeros(3, 5, 7)
    assert psnr(true + 0.1, true, 1.0).tolist() == pytest.approx([20.0] * 3, rel=1e-4)
    assert psnr(true + 0.1, true, 2.0).tolist() == pytest.approx([26.02] * 3, rel=1e-3)


def test_silence_has_a_signal_to_noise_ratio_of_zero_and_a_tenth_of_the_amplitude_as_error_of_twenty():
    true = torch.randn(3, 35)
    assert snr(torch.zeros(3, 35), true).item() == pytest.approx(0, abs=1e-4)
    assert snr(true * 1.1, true).item() == pytest.approx(20, rel=1e-4)


def test_the_error_of_a_modality_is_the_function_that_is_given():
    batch = labelled_clips()
    model = ours("multimodal", reference("multimodal")).eval()
    task = Autoencoding(model, errors={"audio": torch.nn.functional.mse_loss})
    written, found = task(batch), task.losses(batch, {})
    assert found["audio"].item() == pytest.approx((written["audio"] - batch["audio"]).square().mean().item(), rel=1e-5)
    assert found["image"].item() == pytest.approx((written["image"] - batch["image"]).abs().mean().item(), rel=1e-5)


def test_what_is_written_is_multiplied_by_its_scale():
    model, batch = ours("multimodal", reference("multimodal")).eval(), labelled_clips()
    description = describe(model)
    description["args"]["scales"] = {"audio": 0.25}
    scaled = build(description).eval()
    scaled.load_state_dict(model.state_dict())
    before, after = model(batch), scaled(batch)
    assert torch.equal(after["audio"], 0.25 * before["audio"]) and torch.equal(after["image"], before["image"])
    description["args"]["scales"] = {"sound": 0.25}
    with pytest.raises(ValueError, match="scales of sound: this model writes audio, image, label"):
        build(description)


def test_what_is_hidden_in_training_is_written_all_the_same():
    """And in evaluation nothing is hidden."""
    model, batch = ours("multimodal", reference("multimodal")).eval(), labelled_clips()
    description = describe(model)
    description["args"]["modality_dropout"] = describe(ModalityDropout(0.9))
    hiding = build(description).eval()
    hiding.load_state_dict(model.state_dict())
    before = model(batch)
    assert all(torch.equal(written, before[name]) for name, written in hiding(batch).items())
    hiding.train()
    torch.manual_seed(3)
    written = hiding(batch)
    assert not torch.equal(written["image"], before["image"])
    assert all(written[name].shape == before[name].shape and torch.isfinite(written[name]).all() for name in before)


def test_a_weight_or_an_error_of_nothing_that_is_written_is_refused():
    model = ours("multimodal", reference("multimodal"))
    with pytest.raises(ValueError, match="weights of sound: this task has them of image, audio, label"):
        Autoencoding(model, weights={"sound": 1.0})
    with pytest.raises(ValueError, match="errors of label: this task has them of image, audio"):
        Autoencoding(model, errors={"label": torch.nn.functional.mse_loss})


@pytest.mark.parametrize("places", [{"image": 0}, {"image": 10**9}, {"touch": 3}])
def test_places_that_are_not_there_are_refused(places):
    with pytest.raises(ValueError, match="and the model writes audio with 15, image with"):
        Autoencoding(ours("multimodal", reference("multimodal")), places=places)


def test_a_text_that_is_too_long_is_refused():
    model, _ = rebuild(ours("language", reference("language")), {"max_length": 17})
    with pytest.raises(ValueError, match="longer than the table of 17|texts of 23 places"):
        MaskedLanguage(model).train_loss(masked_texts())


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*treespec, LeafSpec.*", "ignore:You defined a .validation_step. but")
def test_what_is_logged_of_a_batch_in_parts_is_of_the_whole_batch_at_the_same_places():
    logged = []
    for micro in (None, MicroBatches(2)):
        torch.manual_seed(5)
        task = Autoencoding(ours("multimodal", reference("multimodal")), places={"image": 7}, warmup_steps=0, micro_batches=micro)
        options = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        trainer = L.Trainer(max_steps=1, **options)
        trainer.fit(task, torch.utils.data.DataLoader([labelled_clips()], batch_size=None))
        logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})
    assert logged[0].keys() == {"train/loss", "train/loss/image", "train/loss/audio", "train/loss/label"}
    assert logged[1] == pytest.approx(logged[0], rel=1e-4)


def test_parts_that_were_given_up_do_not_count():
    one, two, five = (torch.tensor(value) for value in (1.0, 2.0, 5.0))
    assert means([(5, {"image": five}), (3, {"image": one}), (2, {"image": two, "label": five})], 5) == {"image": 1.4, "label": 5}
