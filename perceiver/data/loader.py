"""The loader of a mixture: items in the order of the steps, from wherever training stands, and errors that say which rows they meet."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, DistributedSampler

from perceiver.data.batches import Batches


class Steps(DistributedSampler[int]):
    """The steps of an epoch that are still to do. Which rows a rank takes is decided by the batches, not here.

    It is a distributed sampler for a trainer that puts its own one in the place of any other.

    Args:
        done: how many steps training has taken; asked at the start of each epoch.
        per_epoch: steps of an epoch.
    """

    def __init__(self, done: Callable[[], int], per_epoch: int) -> None:  # not the parent's: what it prepares is not used
        self.done = done
        self.per_epoch = per_epoch

    def __iter__(self) -> Iterator[int]:
        done = self.done()
        return iter(range(done, (done // self.per_epoch + 1) * self.per_epoch))

    def __len__(self) -> int:
        """Of a whole epoch."""
        return self.per_epoch


class Turns(DistributedSampler[int]):
    """All evaluation batches of a rank, in order.

    Args:
        number: of them.
    """

    def __init__(self, number: int) -> None:  # not the parent's, as above
        self.number = number

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.number))

    def __len__(self) -> int:
        return self.number


class WorkerLost(OSError):
    """A data worker was killed, or gave no answer in time."""


class MixtureLoader(DataLoader[dict[str, Any]]):
    """Loads whole batches by number; a lost or silent worker is an error that names the rows that were waited for.

    Its own generator starts the workers, so that having some does not change the model's random numbers.

    Args:
        batches: by number.
        sampler: their numbers.
        num_workers: processes that make them.
        timeout: seconds to wait for a batch before its worker counts as hung.
        pin_memory: for copying to a GPU.
    """

    def __init__(self, batches: Batches, sampler: DistributedSampler[int], *, num_workers: int, timeout: float, pin_memory: bool = False) -> None:
        super().__init__(
            batches,
            batch_size=None,
            sampler=sampler,
            collate_fn=as_it_is,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            timeout=timeout if num_workers else 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Raises:
        WorkerLost: naming the worker and the rows.
        """
        waited_for = iter(self.sampler)
        batches = super().__iter__()
        while True:
            item = next(waited_for, None)
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                told = str(error)
                if "DataLoader" not in told or "Caught" in told:
                    raise
                # A hung worker never ends by itself, and would be waited for at exit.
                for worker in getattr(self._iterator, "_workers", []):
                    worker.kill()
                rows = self.dataset.names(item) if isinstance(self.dataset, Batches) and item is not None else []
                raise WorkerLost(f"{told.splitlines()[0].rstrip('.')}, while batch {item} was waited for, with rows {shortened(rows)}") from error
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Nothing: where training stands is in the trainer's own counters, and which rows come next follows from that."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Nothing to do; see `state_dict`."""


def as_it_is(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch: items are whole batches already."""
    return batch


def shortened(names: list[str], most: int = 8) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
