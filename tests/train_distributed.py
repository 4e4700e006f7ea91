"""Trains on the toy mixture in one or more processes: `train_distributed.py FOLDER DEVICES MAX_STEPS [STOP] [resume]`."""

import json
import sys
import warnings
from pathlib import Path

import lightning as L
import torch
from builders import DIM, small_encoder, three_adapters
from toy_datasets import toy_mixture

from perceiver import Decoder, MultitaskPerceiver
from perceiver.resume import RandomState, WholeCheckpoints
from perceiver.tasks import Multitask

warnings.filterwarnings("ignore")


class Stop(L.Callback):
    """Ends the training after a step, as if it had been planned to go on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step >= self.step


class Watch(L.Callback):
    """Notes which rows came, with what loss."""

    def __init__(self) -> None:
        self.rows, self.losses = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batches = trainer.train_dataloader.batches
        self.rows.append([tuple(draw) for draw in batches.draws(trainer.global_step)])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(outputs["loss"]))


def main(folder: str, devices: str, max_steps: str, stop: str | None = None, resume: str | None = None) -> None:
    torch.manual_seed(3)
    task = Multitask(MultitaskPerceiver(three_adapters(), small_encoder(), Decoder(13, DIM)), toy_mixture().tasks, warmup_steps=3)
    watch = Watch()
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        devices=int(devices),
        strategy="ddp_find_unused_parameters_true" if int(devices) > 1 else "auto",
        max_steps=int(max_steps),
        max_epochs=-1,
        callbacks=[watch, RandomState(), *([Stop(int(stop))] if stop else [])],
        plugins=[WholeCheckpoints()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    checkpoint = Path(folder) / "last.ckpt"
    trainer.fit(task, toy_mixture(), ckpt_path=str(checkpoint) if resume else None, weights_only=True)
    trainer.save_checkpoint(checkpoint)
    weights = [float(p.double().sum()) for p in task.parameters()]
    told = {
        "rows": watch.rows,
        "losses": watch.losses,
        "weights": weights,
        "accuracy": float(trainer.validate(task, toy_mixture())[0]["val/accuracy"]),
    }
    (Path(folder) / f"rank-{trainer.global_rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
