"""Guard for data workers: one that is killed while a step is under way is told with the rows of the next batch, not by its number alone."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from perceiver.data.mixture.loader import WorkerLost, shortened
from perceiver.guards.explained import explain


class NameLostRows(Callback):
    """PyTorch interrupts whatever runs when a data worker dies. While a batch is waited for, the loader says which; during a step, this does."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Says it in the error that a dead worker has made in the middle of a step."""
        told = str(exception).splitlines()[0].rstrip(". ") if str(exception) else ""
        if not isinstance(exception, RuntimeError) or isinstance(exception, WorkerLost) or not told.startswith("DataLoader worker"):
            return
        step = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        names = getattr(trainer.datamodule, "names", None)  # type: ignore[attr-defined]
        rows = f", with rows {shortened(names(step))}" if callable(names) else ""
        explain(exception, f"{told}, while step {trainer.global_step} was under way; the next batch is {step}{rows}")
