"""What it costs that nothing is lost: the look for NaN before each step, and a checkpoint as a verified folder beside one file of `torch.save`.

    python benchmarks/guards.py configs/quickstart.yaml configs/mixed.yaml

In turns, in one process; medians. Both checkpoints hold the same, are forced to disk, and are read back and compared.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from perceiver import checkpoints
from perceiver.guards.non_finite import all_finite
from perceiver.recipe import build_recipe


def main() -> None:
    """Measures each recipe that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for recipe in given.recipes:
        step, look, folder, file, size = measured(recipe, given.turns)
        Console().print(
            f"{recipe}: a step {1e3 * step:.1f} ms, a look {1e3 * look:.2f} ms ({100 * look / (step + look):.2f} %); "
            f"a checkpoint of {size / 1e6:.1f} MB {1e3 * folder:.0f} ms as a folder, {1e3 * file:.0f} ms as one file ({folder / file:.2f} times)"
        )


def measured(recipe: Path, turns: int) -> tuple[float, float, float, float, int]:
    """Seconds of a step, of a look, of both checkpoints, medians; bytes of a checkpoint."""
    task, data = build_recipe(recipe)
    data.num_workers = 0
    data.prepare_data()
    data.setup("fit")
    task.train()
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    taken: dict[str, list[float]] = {name: [] for name in ("step", "look", "folder", "file")}
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        for index, batch in enumerate(data.train_dataloader()):
            batch = data.on_before_batch_transfer(batch, 0)
            started = time.perf_counter()
            optimizer.zero_grad()
            loss = task.training_step(batch, index)
            loss.backward()
            forward = time.perf_counter() - started
            started = time.perf_counter()
            if not all_finite([loss.detach()], [p.grad for p in task.parameters() if p.grad is not None]):
                raise SystemExit("the loss is not finite")
            taken["look"].append(time.perf_counter() - started)
            started = time.perf_counter()
            optimizer.step()
            taken["step"].append(forward + time.perf_counter() - started)
            content = {"global_step": index, "state_dict": task.state_dict(), "optimizer_states": [optimizer.state_dict()]}
            taken["folder"].append(timed(checkpoints.save, content, Path(place, "folder.ckpt")))
            taken["file"].append(timed(as_file, content, Path(place, "file.ckpt")))
            if index == turns:
                break
        both = [checkpoints.read(Path(place, name))["state_dict"] for name in ("folder.ckpt", "file.ckpt")]
        if any(not torch.equal(value, both[1][name]) for name, value in both[0].items()):
            raise SystemExit("the two checkpoints differ")
        size = sum(file.stat().st_size for file in Path(place, "folder.ckpt").iterdir())
    middle = {name: median(values[1:]) for name, values in taken.items()}
    return middle["step"], middle["look"], middle["folder"], middle["file"], size


def timed(save: Any, content: dict[str, Any], place: Path) -> float:
    """Seconds of saving."""
    started = time.perf_counter()
    save(content, place)
    return time.perf_counter() - started


def as_file(content: dict[str, Any], place: Path) -> None:
    """One file of `torch.save`, forced to disk and renamed."""
    part = place.with_suffix(".part")
    with open(part, "wb") as opened:
        torch.save(content, opened)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(part, place)


if __name__ == "__main__":
    main()
