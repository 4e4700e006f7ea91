"""A data worker that dies during a step is told with the rows of the next batch, in the error itself."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from test_non_finite import Named, trained

from perceiver.data.mixture.loader import WorkerLost
from perceiver.guards import NameLostRows
from perceiver.guards.explained import is_explained

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step. but"),
]


class Fail(Callback):
    """An error in the middle of a step."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step == 4:
            raise self.error


DIED = "DataLoader worker (pid 4711) is killed by signal: Killed. "


def test_it_is_told_with_the_step_and_the_rows_of_the_next_batch():
    error = RuntimeError(DIED)
    with pytest.raises(RuntimeError, match=r"worker \(pid 4711\).*while step 4 was under way; the next batch is 5, with rows digits/5-0, digits/5-1"):
        trained(Named({}), NameLostRows(), Fail(error))
    assert is_explained(error)


def test_data_that_cannot_name_their_rows_are_no_trouble():
    data = Named({})
    data.names = ["digits"]
    with pytest.raises(RuntimeError, match="the next batch is 5$"):
        trained(data, NameLostRows(), Fail(RuntimeError(DIED)))


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes"), ValueError(DIED), WorkerLost("DataLoader worker is gone, with its rows"), torch.OutOfMemoryError("none")]
)
def test_other_errors_stay_as_they_are(error):
    before = str(error)
    with pytest.raises(type(error)):
        trained(Named({}), NameLostRows(), Fail(error))
    assert str(error) == before
