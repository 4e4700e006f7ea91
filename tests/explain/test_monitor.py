"""The monitor of training: it logs what it sees, and changes nothing."""

import csv
from contextlib import nullcontext

import lightning as L
import pytest
import torch
from builders import (
    CLASSES,
    DIM,
    NAMES,
    presence_table,
    raw_entries,
    small_encoder,
    small_late_fusion,
    small_perceiver,
    three_adapters,
    whole_batch,
)
from torch import nn

from perceiver import ModalityDropout, Perceiver
from perceiver.explain import AttentionMonitor
from perceiver.explain.attention.passage import Weighed, following
from perceiver.explain.attention.statistics import statistics
from perceiver.explain.monitor import gradient_norms, look
from perceiver.run_folder import RunFolder
from perceiver.run_log import RunLogger
from perceiver.tasks import Classification

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*treespec, LeafSpec.*", "ignore:.*no `val_dataloader`.*")


def batches(number: int = 6) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    made = [
        whole_batch(raw_entries(), presence_table([7, 2, 5, 4, 3])) | {"target": torch.randint(CLASSES, (5,), generator=draw)} for _ in range(number)
    ]
    torch.set_rng_state(state)
    return made


def train(tmp_path, callbacks) -> Classification:
    torch.manual_seed(0)
    model = small_perceiver(ModalityDropout(0.4))
    model.head = nn.Sequential(nn.Dropout(0.3), model.head)
    task = Classification(model, CLASSES, warmup_steps=1)
    trainer = L.Trainer(
        max_steps=6,
        logger=RunLogger(RunFolder(tmp_path)),
        log_every_n_steps=4,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(task, torch.utils.data.DataLoader(batches(), batch_size=None))
    return task


def test_a_training_that_is_watched_is_the_same_training_bit_for_bit_and_each_figure_is_logged(tmp_path):
    alone = train(tmp_path / "alone", [])
    watched = train(tmp_path / "watched", [AttentionMonitor(2)])
    for (name, a), b in zip(alone.model.named_parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(a, b), name
    with open(tmp_path / "watched" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = {"attention/encoder.cross.0/entropy", "attention/encoder.cross.0/spectral_norm", "latents/effective_rank"}
    names |= {f"attention/encoder.cross.0/mass_{name}" for name in NAMES} | {f"gradient/{name}" for name in NAMES}
    assert names <= set(rows[0])
    for name in names:
        assert [int(row["step"]) for row in rows if row.get(name)] == [1, 3, 5], name
    last = [row for row in rows if row["latents/effective_rank"]][-1]
    assert sum(float(last[f"attention/encoder.cross.0/mass_{name}"]) for name in NAMES) == pytest.approx(1, abs=1e-5)
    assert 0 < float(last["attention/encoder.cross.0/entropy"]) <= 1


def test_a_layer_that_reads_twice_is_logged_twice_under_two_names():
    torch.manual_seed(0)
    model = Perceiver(three_adapters(), small_encoder(cross_attend=(0, 0)), nn.Linear(DIM, CLASSES)).requires_grad_(False)
    task = Classification(model, CLASSES)
    found = look(task, batches(1)[0], nullcontext())
    first, second = (float(found[f"attention/encoder.cross.0{which}/entropy"]) for which in ("", " (2)"))
    with following(task.model) as passage:
        task.eval()(batches(1)[0])
        reads = passage().reads
    assert [first, second] == [pytest.approx(float(statistics(Weighed(call)).sharpness.nanmean())) for call in reads]


def test_under_mixed_precision_the_monitor_looks_at_what_the_model_computes(tmp_path):
    seen: list[bool] = []

    class Noting(Classification):
        def forward(self, batch):
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(batch)

    task = Noting(small_perceiver(), CLASSES, warmup_steps=1)
    quiet = dict(enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    logger = RunLogger(RunFolder(tmp_path))
    trainer = L.Trainer(max_steps=2, precision="bf16-mixed", logger=logger, log_every_n_steps=1, callbacks=[AttentionMonitor(1)], **quiet)
    trainer.fit(task, torch.utils.data.DataLoader(batches(2), batch_size=None))
    assert seen == [True] * 4  # a step and a look, twice


def test_what_cannot_be_looked_at_is_refused_before_training():
    with pytest.raises(ValueError, match="every_n_steps=0: give at least 1"):
        AttentionMonitor(0)
    task = Classification(small_late_fusion(), CLASSES)
    trainer = L.Trainer(max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    with pytest.raises(ValueError, match="LateFusion has none"):
        AttentionMonitor(1).on_fit_start(trainer, task)


def test_a_modality_without_gradients_has_a_norm_of_zero():
    model = small_perceiver()
    model.inputs.projections["audio"].weight.grad = torch.full_like(model.inputs.projections["audio"].weight, 2.0)
    norms = gradient_norms(model.inputs)
    weights = model.inputs.projections["audio"].weight.numel()
    assert float(norms["audio"]) == pytest.approx(2 * weights**0.5) and float(norms["image"]) == float(norms["text"]) == 0
