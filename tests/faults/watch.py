"""Watch: memory and open files of a training process, as it goes on."""

import os
from pathlib import Path

from lightning.pytorch.callbacks import Callback


class WatchProcess(Callback):
    """Writes memory (bytes) and open files of this process to a file, every hundred steps.

    Args:
        file: gets a line each time, behind those of other processes.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Looks, if it is time to."""
        if trainer.global_step % 100:
            return
        if not self.file.exists():
            self.file.write_text("process,step,bytes,files\n")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()},{trainer.global_step},{pages * os.sysconf('SC_PAGE_SIZE')},{len(os.listdir('/proc/self/fd'))}\n")
