"""Lightning with its own loops, loaders and checkpoints: `last.ckpt` and the newest step, every few steps."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from tests.faults.subjects.toy import Fate, Samples, arguments, network


class Toy(L.LightningModule):
    """The small network as a task."""

    def __init__(self, fate: Fate, dropout: bool) -> None:
        super().__init__()
        self.fate = fate
        self.net = network(dropout)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """The loss, noted."""
        loss = cross_entropy(self.net(batch["rows"]), batch["labels"])
        self.fate.step(self.global_step, loss, batch["ids"])
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters())


class BeforeSave(Callback):
    """Tells of a save that is to come: checkpoints are Lightning's last callback."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Tells the number of updates so far."""
        pl_module.fate.before_save(trainer.global_step)


def main(words: Sequence[str]) -> None:
    """Trains."""
    asked = arguments(words)
    L.seed_everything(1)
    fate = Fate(asked)
    loader = DataLoader(Samples(asked.noise), batch_size=asked.batch_size, shuffle=not asked.in_order, num_workers=asked.workers)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=asked.steps,
        default_root_dir=asked.folder,
        callbacks=[BeforeSave(), ModelCheckpoint(asked.checkpoints, every_n_train_steps=asked.save_every, save_last=True)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Toy(fate, asked.dropout), loader, ckpt_path="last" if asked.resume == "newest" else asked.resume)
