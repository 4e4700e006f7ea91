"""Fine-tuning by part: what is frozen stays to the bit, what waits starts when it is told to, and each part learns at its own pace."""

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

import perceiver
from perceiver.adapters.image_map import ConvStem, ImageMap
from perceiver.models.classifier import Classifier
from perceiver.parts import chosen, part_of
from perceiver.positions import FourierPositions
from perceiver.pretrained.init_from import InitFrom
from perceiver.tasks import Classification, FineTuning
from tests.builders import CLASSES, DIM, small_encoder

pytestmark = [  # Lightning's, about its own code and about machines with more cores
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
CLASS_ROWS = 11


def classifier(seed: int = 0) -> Classifier:
    """With a stem that has a batch norm."""
    torch.manual_seed(seed)
    adapter = ImageMap(ConvStem(3, 5), 5, FourierPositions((2, 2), 2))
    return Classifier({"image": adapter}, small_encoder(), perceiver.Decoder(13, DIM), CLASSES)


def train(tmp_path, fine_tuning=None, steps=3, watch=None, model=None, **options):
    """A few steps; the model before and after."""
    model = model or classifier()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(1)
    rows = [{"image": torch.randn(3, 19, 19), "target": torch.tensor(i % CLASSES)} for i in range(CLASS_ROWS)]
    task = Classification(model, CLASSES, warmup_steps=1, learning_rate=0.01, fine_tuning=fine_tuning, **options)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_steps=steps,
        accelerator="cpu",
        gradient_clip_val=1.0,
        callbacks=[watch] if watch else [],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )
    trainer.fit(task, DataLoader(rows, batch_size=5), DataLoader(rows, batch_size=5))
    return before, task


def changed(before, model) -> set[str]:
    """Parts in which some number differs."""
    return {part_of(name) for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}


ALL = {"latents", "adapters.image", "cross_attends.0", "stacks.0.0", "queries", "decoder", "heads"}


def test_without_options_everything_learns(tmp_path):
    before, task = train(tmp_path)
    assert changed(before, task.model) == ALL


@pytest.mark.parametrize("frozen", [["encoder"], ["adapters"], ["latents", "stacks.0.0"], ["encoder", "adapters", "queries", "decoder"]])
def test_what_is_frozen_stays_to_the_bit_statistics_of_batch_norms_too(tmp_path, frozen):
    before, task = train(tmp_path, FineTuning(freeze=dict.fromkeys(frozen)))
    assert changed(before, task.model) == {part for part in ALL if not chosen(part, frozen)}


class Watch(L.Callback):
    """The parts that changed in each step."""

    def __init__(self) -> None:
        self.steps: list[set[str]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = {name: weight.clone() for name, weight in pl_module.model.state_dict().items()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(changed(self.before, pl_module.model))


def test_a_part_that_waits_starts_at_its_step(tmp_path):
    watch = Watch()
    train(tmp_path, FineTuning(freeze={"encoder": 2, "adapters": 3, "decoder": None}), steps=4, watch=watch)
    encoder = {part for part in ALL if chosen(part, ["encoder"])}
    assert [step & (encoder | {"adapters.image", "decoder"}) for step in watch.steps] == [set(), set(), encoder, encoder | {"adapters.image"}]


def test_what_waits_counts_for_nothing_when_gradients_are_clipped(tmp_path):
    """So the first steps are those of a model in which the part never learns."""
    waits, never = (train(tmp_path, FineTuning(freeze={"encoder": step}), steps=2)[1].model.state_dict() for step in (2, None))
    assert all(torch.equal(weight, never[name]) for name, weight in waits.items())


def learning_rates(task: Classification) -> dict[str, float]:
    """Of each parameter, relative to the first of the schedule."""
    groups = task.trainer.optimizers[0].param_groups
    by_id = {id(parameter): group["initial_lr"] for group in groups for parameter in group["params"]}
    return {name: by_id[id(parameter)] / task.learning_rate for name, parameter in task.model.named_parameters() if id(parameter) in by_id}


def test_each_part_has_its_factor_and_the_longer_name_counts(tmp_path):
    _, task = train(tmp_path, FineTuning(learning_rate={"encoder": 0.5, "adapters": 0.25, "stacks.0": 0.125}))
    expected = {"latents": 0.5, "cross_attends.0": 0.5, "stacks.0.0": 0.125, "adapters.image": 0.25}
    found = learning_rates(task)
    assert set(found) == {name for name, _ in task.model.named_parameters()}
    assert all(value == pytest.approx(expected.get(part_of(name), 1.0)) for name, value in found.items())


def test_layers_decay_from_the_head_down(tmp_path):
    _, task = train(tmp_path, FineTuning(layer_decay=0.5, learning_rate={"latents": 0.1}))
    expected = {
        "heads": 1,
        "decoder": 1 / 2,
        "queries": 1 / 2,
        "stacks.0.0": 1 / 4,
        "cross_attends.0": 1 / 8,
        "adapters.image": 1 / 16,
        "latents": 1 / 160,
    }
    assert all(value == pytest.approx(expected[part_of(name)]) for name, value in learning_rates(task).items())


def test_factors_hold_for_an_optimizer_of_ones_own(tmp_path):
    options = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=0.1)}
    before, task = train(tmp_path, FineTuning(learning_rate={"encoder": 0.0}), **options)
    assert changed(before, task.model) == {part for part in ALL if not chosen(part, ["encoder"])}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": {"encoders": None}}, "'encoders' is no part of this model, which has adapters.image"),
        ({"learning_rate": {"text": 0.1}}, "'text' is no part of this model"),
        ({"freeze": dict.fromkeys(["encoder", "adapters", "decoder", "queries", "heads"])}, "nothing is left to learn"),
    ],
)
def test_names_are_checked_before_the_first_step(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, FineTuning(**options))


@pytest.mark.parametrize("options", [{"freeze": {"encoder": 0}}, {"learning_rate": {"heads": -1.0}}, {"layer_decay": -0.5}])
def test_numbers_without_sense_are_refused(options):
    with pytest.raises(ValueError, match="give a positive step|cannot be negative"):
        FineTuning(**options)


def test_a_task_starts_from_other_weights_and_says_what_became_of_each_part(tmp_path, caplog):
    source = classifier(seed=3)
    source.save_pretrained(tmp_path / "source")
    caplog.set_level("INFO")
    all_but_heads = FineTuning(freeze=dict.fromkeys(["encoder", "adapters", "decoder", "queries"]))
    _, task = train(tmp_path, all_but_heads, init_from=InitFrom(str(tmp_path / "source")))
    assert changed(source.state_dict(), task.model) == {"heads"}
    assert "weights from" in caplog.text and caplog.text.count("loaded") == 7


def test_picture_task_loses_nothing_when_a_model_learns_another_modality(tmp_path):
    """The old parts are frozen: they are what they were to the bit, and old rows give the same numbers, whatever was learned.

    (Numbers are compared to rounding: where an activation lies in memory decides how the processor adds it up.)
    """
    model = classifier()
    picture = {"image": torch.randn(2, 3, 19, 19)}
    with torch.no_grad():
        expected = model.eval()(picture)
    old = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.add_modality("touch", perceiver.TextBytes(7, 3))
    rows = [{"touch": torch.randint(6, 262, (7,)), "target": torch.tensor(i % CLASSES)} for i in range(CLASS_ROWS)]
    old_parts = FineTuning(freeze=dict.fromkeys(["encoder", "adapters.image", "decoder", "queries", "heads"]))
    task = Classification(model.train(), CLASSES, warmup_steps=1, fine_tuning=old_parts)
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1)
    before = model.inputs.projections["touch"].weight.clone()
    L.Trainer(default_root_dir=tmp_path, max_steps=4, accelerator="cpu", **quiet).fit(task, DataLoader(rows, 5), DataLoader(rows, 5))
    assert not torch.equal(model.inputs.projections["touch"].weight, before)
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in old.items())
    with torch.no_grad():
        assert torch.allclose(model.eval()(picture), expected, atol=1e-5)
