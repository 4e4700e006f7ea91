"""`perceiver explain RUN_DIR`: how a trained model combines its modalities, and whether the picture of its attention is true."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perceiver.commands.parser import Parser
from perceiver.commands.screen import screen
from perceiver.run_folder import RunFolder


def explain(words: list[str]) -> None:
    """Measures, prints the summary, and writes `explanation/` into the run folder.

    Args:
        words: of the command line, behind `explain`.

    Raises:
        ValueError: when the folder holds no run, or a run without a checkpoint, or of a task that a report cannot ask.
    """
    parser = Parser("perceiver explain", description="How a trained model combines its modalities, and whether the picture of its attention is true.")
    parser.add_argument("run_dir", type=Path, help="the folder of a run, with config.yaml and checkpoints/")
    parser.add_argument("--rows", type=int, default=400, help="rows of each dataset at most (400)")
    parser.add_argument("--samples", type=int, default=24, help="rows that the page shows (24)")
    parser.add_argument("--title", default="", help="of the page; the run's name when not given")
    parser.add_argument("--budget", type=int, default=None, metavar="PASSES", help="forward passes over the rows at most (as many as it takes)")
    parser.add_argument("--figures", action="store_true", help="draw figures for papers, too, with Matplotlib")
    given = parser.parse_args(words)
    folder = RunFolder(given.run_dir)
    weights = check_run(folder)
    from perceiver.explain import report  # Lightning takes seconds to import

    console = screen()
    task, data = trained(folder, weights)
    found = report(
        task,
        batches(data, "test"),
        validation=batches(data, "validate"),
        rows=given.rows,
        samples=given.samples,
        classes=getattr(data, "classes", None),
        results=folder.metrics(),
        budget_passes=given.budget,
        title=given.title or folder.path.resolve().name,
        tell=lambda line: console.print(f"... {line}", markup=False, highlight=False),
    )
    found.write(folder.explanation)
    if given.figures:
        from perceiver.explain.figures import draw

        draw(found, folder.explanation)
    for line in found.summary():
        console.print(f"\n{line}", markup=False, highlight=False)
    console.print(f"\nreport: {folder.explanation / 'report.html'}", markup=False, highlight=False)


def check_run(folder: RunFolder) -> Path:
    """The checkpoint of a run: the best, or else the last.

    Raises:
        ValueError: saying what is missing.
    """
    if not (folder.path / "config.yaml").is_file():
        raise ValueError(f"{folder.path} has no config.yaml: give the folder of a run, such as runs/quickstart after `perceiver fit`")
    found = [file for name in ("best.ckpt", "last.ckpt") if (file := folder.checkpoints / name).exists()]
    if not found:
        raise ValueError(f"{folder.path} has no checkpoint in {folder.checkpoints.name}/: train it first, or wait for its first validation")
    return found[0]


def trained(folder: RunFolder, weights: Path) -> tuple[Any, Any]:
    """The task with its weights, and the datamodule.

    Raises:
        ValueError: when the weights cannot be read, or are of another model than the configuration describes.
    """
    import torch

    from perceiver import checkpoints
    from perceiver.recipe import build_recipe
    from perceiver.weights import check_same_weights

    task: Any
    task, data = build_recipe(folder.path / "config.yaml")
    if task.fine_tuning is not None:
        task.fine_tuning.prepare(task.model)  # a checkpoint may hold what it adds
    state = checkpoints.read(weights).get("state_dict", {})
    check_same_weights(task.state_dict(), state)
    task.load_state_dict(state)
    return task.to("cuda" if torch.cuda.is_available() else "cpu").eval(), data


def batches(data: Any, stage: str) -> Iterator[dict[str, Any]]:
    """Batches of the test or the validation, as a trainer would hand them on."""
    data.prepare_data()
    data.setup(stage)
    loader = data.test_dataloader() if stage == "test" else data.val_dataloader()
    try:
        for batch in loader:
            yield data.on_before_batch_transfer(batch, 0)
    finally:
        data.teardown(stage)
