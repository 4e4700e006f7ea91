"""The loader of a mixture: items in the order of the steps, from wherever training stands, and errors that say which rows they meet."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize, get_temp_dir
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

DIES_WITHIN = 1.0  # seconds, from a process's last word until the system says that it is gone


def steps_done(data: LightningDataModule) -> int:
    """Batches that training has taken, in this run and in those that it resumes."""
    return 0 if data.trainer is None else data.trainer.fit_loop.epoch_loop.batch_progress.total.ready


class Steps(Sampler[int]):
    """The steps of an epoch that are still to do. Which rows a rank takes is decided by the batches, not here.

    Args:
        done: how many steps training has taken; asked at the start of each epoch.
        per_epoch: steps of an epoch.
    """

    def __init__(self, done: Callable[[], int], per_epoch: int) -> None:
        self.done = done
        self.per_epoch = per_epoch

    def __iter__(self) -> Iterator[int]:
        done = self.done()
        return iter(range(done, (done // self.per_epoch + 1) * self.per_epoch))

    def __len__(self) -> int:
        """Of a whole epoch."""
        return self.per_epoch


class WorkerLost(OSError):
    """A data worker was killed, or gave no answer in time."""


class MixtureLoader:
    """Loads whole batches by number; a lost or silent worker is an error that names the rows that were waited for.

    It has a `DataLoader` rather than being one: Lightning takes any iterable as it is, but gives a loader another sampler when there are
    several ranks, and makes it anew to predict. Its own generator starts the workers, so that having some does not change
    the model's random numbers.

    Args:
        batches: by number; with `names`, an error can say which rows an item has.
        sampler: their numbers.
        num_workers: processes that make them.
        timeout: seconds to wait for a batch before its worker counts as hung.
        pin_memory: for copying to a GPU.
    """

    def __init__(
        self,
        batches: Dataset[dict[str, Any]],
        sampler: Sampler[int] | range,
        *,
        num_workers: int,
        timeout: float,
        pin_memory: bool = False,
    ) -> None:
        if num_workers:
            get_temp_dir()  # the workers' own, which those would leave behind that are killed; now they share that of this process
        self.batches = batches
        self.numbers = sampler
        self.loader = DataLoader(
            batches,
            batch_size=None,
            sampler=sampler,
            collate_fn=as_it_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            timeout=timeout if num_workers else 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),
            worker_init_fn=stay_until_told,
        )
        # Python sends its children SIGTERM when it ends, and waits for them: these take none, and are ended before, while their queues are open.
        Finalize(self, end_loader, args=(self.loader,), exitpriority=100)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Batch after batch.

        Raises:
            WorkerLost: naming the worker and the rows.
        """
        waited_for = iter(self.numbers)
        batches = iter(self.loader)
        while True:
            item = next(waited_for, None)
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                with undisturbed():
                    told = lost(error, batches)
                if told is None:
                    raise
                end_workers(batches)
                raise WorkerLost(f"{told}, while batch {item} was waited for{self._rows_of(item)}") from error
            yield batch

    def _rows_of(self, item: int | None) -> str:
        names = getattr(self.batches, "names", None)
        return "" if names is None or item is None else f", with rows {shortened(names(item))}"

    def close(self) -> None:
        """Ends the workers. Left to the garbage collector they take five seconds each."""
        end_loader(self.loader)

    def state_dict(self) -> dict[str, int]:
        """Nothing: where training stands is in the trainer's own counters, and which rows come next follows from that."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to do; see `state_dict`."""


def stay_until_told(worker: int) -> None:
    """Lets a data worker outlive a SIGTERM that went to all processes of a run: the step that is under way is still finished, with its batches."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def end_loader(loader: DataLoader[Any]) -> None:
    """Ends the workers of a loader, which live from one epoch to the next."""
    end_workers(loader._iterator)
    loader._iterator = None


def end_workers(batches: Any) -> None:
    """Ends the workers of an iterator, if it has any. Torch asks them, and waits five seconds; one that hangs, and takes no SIGTERM, is killed."""
    workers = getattr(batches, "_workers", [])
    with undisturbed():
        getattr(batches, "_shutdown_workers", lambda: None)()
        for worker in workers:
            if worker.is_alive():
                worker.kill()
                worker.join()


def lost(error: BaseException, batches: Any) -> str | None:
    """What an error of an iterator says of a data worker that is lost; None when it is about something else.

    PyTorch says so itself, or else nobody answers when a batch is fetched from the worker that has made it.
    """
    told = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    if isinstance(error, RuntimeError):
        return told if told.startswith("DataLoader") else None
    if not getattr(batches, "_workers", []) or told.startswith("Caught "):  # there are none, or one that is alive has told it
        return None
    end = time.monotonic() + DIES_WITHIN
    while not (dead := [str(worker.pid) for worker in getattr(batches, "_workers", []) if not worker.is_alive()]):
        if time.monotonic() > end:
            return None
        time.sleep(0.01)
    return f"DataLoader worker (pid {', '.join(dead)}) is gone ({type(error).__name__})"


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keeps PyTorch from raising an error here because of a worker that died before: it does so wherever the main thread is just then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def as_it_is(batch: Any) -> Any:
    """The batch: items are whole batches already."""
    return batch


def shortened(names: list[str], most: int = 8) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
