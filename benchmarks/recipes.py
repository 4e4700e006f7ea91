"""What a training step of a recipe costs, for `benchmarks/run.py`: whole steps of a committed config, with its own data loader.

The config is given to the command line of the library as a user would give it, so that a change of the config changes the row. Left out is what
stands between the steps of a run: validation, test and controls. Threads and data workers are what the recipe takes by itself, where `--threads` does
not say otherwise.
"""

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

import lightning as L
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from perceiver.cli import PerceiverCLI, quieten, reason

RECIPES = {"quickstart": "configs/quickstart.yaml", "mixed": "configs/mixed.yaml"}
STEPS = 34  # in a repeat, and under the profiler; in so many steps of configs/mixed.yaml each dataset has its share
WARM_UP = 10  # the data worker starts, and prepares batches ahead
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution", "aten::convolution_backward"}
ATTENTION = ("aten::scaled_dot_product_attention", "aten::_scaled_dot_product", "perceiver_lightning::grid_sums")


@dataclass(frozen=True)
class Cost:
    """What was found.

    Attributes:
        step_s: median seconds of a step: data, forward and backward pass, optimizer, log.
        samples_per_s: rows of all timed steps over their seconds.
        outside: share of the profiled steps' time outside matrix products, convolutions and attention. Of the process that trains:
            what a data worker computes beside it does not count, and waiting for it does. The profiler's own work is in it.
    """

    step_s: float
    samples_per_s: float
    outside: float


def trained(recipe: str, repeats: int) -> Cost:
    """Trains with a recipe for some steps, in a run folder that is gone afterwards.

    Raises:
        SystemExit: saying how the data is prepared, when it is not there.
    """
    quieten()
    config, watch = RECIPES[recipe], Stopwatch(repeats * STEPS)
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "run_dir": f"{folder}/run",
            "controls": "{}",
            "trainer.limit_val_batches": 0,
            "trainer.num_sanity_val_steps": 0,
            "trainer.enable_progress_bar": "false",
        }
        try:
            Training(watch, ["fit", f"--config={config}", *(f"--{key}={value}" for key, value in options.items())])
        except OSError as error:
            raise SystemExit(f"{reason(error)}. {prepared_by(config)}") from error
    return watch.cost()


def prepared_by(config: str) -> str:
    """How the data of a recipe is prepared."""
    return (
        f"`python train.py fit -c {config} -c configs/debug.yaml`, with a network, fetches what the recipe needs; the READMEs in data/ say where to "
        "put it without one"
    )


class Training(PerceiverCLI):
    """The command line of the library, which trains under a stopwatch and nothing else.

    Args:
        watch: the stopwatch.
        args: of the command line.
    """

    def __init__(self, watch: "Stopwatch", args: list[str]) -> None:
        self.watch = watch
        super().__init__(args)

    def before_fit(self) -> None:
        """Lets the stopwatch look, behind all callbacks of the recipe."""
        self.trainer.callbacks.append(self.watch)  # type: ignore[attr-defined]

    def after_fit(self) -> None:
        """Leaves out the test, the report and the controls."""


class Stopwatch(L.Callback):
    """Times steps from the end of one to the end of the next, profiles some more after them, and ends the training.

    It is ended, and not given fewer steps: the schedule of the learning rate stays that of the recipe.

    Args:
        timed: steps to time.
    """

    def __init__(self, timed: int) -> None:
        self.timed = timed
        self.profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)
        self.laps: list[float] = []
        self.rows = 0
        self.seen = 0
        self.since = 0.0
        self.outside = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, number: int) -> None:
        """A step is over."""
        now = time.perf_counter()
        self.seen += 1
        if WARM_UP < self.seen <= WARM_UP + self.timed:
            self.laps.append(now - self.since)
            self.rows += len(batch["dataset"])
        if self.seen == WARM_UP + self.timed:
            self.profiler.start()
        if self.seen == WARM_UP + self.timed + STEPS:
            self.profiler.stop()
            trainer.should_stop = True
            self.outside = 1 - inside(self.profiler.events()) / (now - self.since)  # type: ignore[arg-type]
        if self.seen <= WARM_UP + self.timed:
            self.since = time.perf_counter()

    def cost(self) -> Cost:
        """What was found."""
        return Cost(median(self.laps), self.rows / sum(self.laps), self.outside)


def inside(events: Iterable[FunctionEvent]) -> float:
    """Seconds in matrix products, convolutions and attention, those that one of them calls counted once."""
    return sum(one.cpu_time_total for one in events if counts(one) and not any(counts(other) for other in callers(one))) / 1e6


def counts(event: FunctionEvent) -> bool:
    """Whether it is a matrix product, a convolution, or attention."""
    return event.name in PRODUCTS or event.name.startswith(ATTENTION)


def callers(event: FunctionEvent) -> Iterable[FunctionEvent]:
    """What it was called by, innermost first."""
    while event.cpu_parent is not None:
        event = event.cpu_parent
        yield event
