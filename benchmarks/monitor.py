"""What the attention monitor costs in training: the time of a look beside that of a step, taken in turns in one process.

    python benchmarks/monitor.py --threads 2 configs/quickstart.yaml

Prints medians, and the share of the time that looks take at `every_n_steps` 100. In the same run, a step after a look is compared with one without.
"""

import argparse
import copy
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import torch
from rich.console import Console

from perceiver.explain.monitor import AttentionMonitor, gradient_norms, look
from perceiver.recipe import build_recipe


def main() -> None:
    """Measures each recipe that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    every = AttentionMonitor().every_n_steps
    for recipe in given.recipes:
        step, seen = measured(recipe, given.turns)
        share = seen / (every * step + seen)
        Console().print(
            f"{recipe}: a step {1e3 * step:.1f} ms, a look {1e3 * seen:.1f} ms: {100 * share:.2f} % of the time, one look in {every} steps"
        )


def measured(recipe: Path, turns: int) -> tuple[float, float]:
    """Seconds of a step and of a look, medians."""
    task, data = build_recipe(recipe)
    data.num_workers = 0
    data.prepare_data()
    data.setup("fit")
    task.train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    steps, looks = [], []
    for index, batch in enumerate(data.train_dataloader()):
        batch = data.on_before_batch_transfer(batch, 0)
        started = time.perf_counter()
        optimizer.zero_grad()
        task.training_step(batch, index).backward()
        optimizer.step()
        steps.append(time.perf_counter() - started)
        before = copy.deepcopy(task.state_dict())
        started = time.perf_counter()
        gradient_norms(task.model.inputs)
        look(task, batch, nullcontext())
        looks.append(time.perf_counter() - started)
        if any(not torch.equal(value, before[name]) for name, value in task.state_dict().items()):
            raise SystemExit("a look has changed the model")
        if index == turns:
            break
    return median(steps[1:]), median(looks[1:])


if __name__ == "__main__":
    main()
