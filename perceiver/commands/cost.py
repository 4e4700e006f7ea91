"""`perceiver cost CONFIG [--measure forward] [--json FILE]`: what a model costs, without data and without training."""

import json
from pathlib import Path
from typing import Any

import torch

from perceiver.commands.parser import Parser
from perceiver.commands.screen import screen
from perceiver.cost import cost_report, measured
from perceiver.pretrained.architectures import PUBLISHED, architecture
from perceiver.pretrained.semantics import semantics


def cost(words: list[str]) -> None:
    """Prints the report of a configuration, or of a published model.

    Args:
        words: of the command line, behind `cost`.

    Raises:
        ValueError: when there is no such configuration, or its model has an adapter that does not say how large its entries are; or when a
            published model is to be measured.
    """
    parser = Parser("perceiver cost", description="What a model costs: parameters, FLOPs, memory, path length; by block and by modality.")
    parser.add_argument("config", help=f"a configuration of a training, or a published model: {', '.join(PUBLISHED)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument(
        "--measure", choices=("nothing", "forward"), default="nothing", help="run the model here, and tell how long a forward pass takes"
    )
    given = parser.parse_args(words)
    if given.json is not None and not given.json.absolute().parent.is_dir():
        raise ValueError(f"--json {given.json}: there is no folder {given.json.parent} to write to")
    if given.measure != "nothing" and given.config in PUBLISHED:
        raise ValueError(f"--measure {given.measure}: {given.config} is told without its weights, and cannot be run; give a configuration")
    model = published(given.config) if given.config in PUBLISHED else configured(Path(given.config))
    report = cost_report(model.eval(), measure=measured if given.measure == "forward" else None)
    console = screen()
    for sentence in report.summary():
        console.print(f"- {sentence}", markup=False, highlight=False)
    for table in report.tables():
        console.print(table)
    if given.json is not None:
        given.json.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
        console.print(f"written to {given.json}", markup=False, highlight=False)


def published(name: str) -> Any:
    """A published model without its weights; nothing is fetched."""
    config = PUBLISHED[name]
    with torch.device("meta"):
        return architecture(config.architecture).build(config, semantics("hf"))


def configured(file: Path) -> Any:
    """The model that a configuration describes."""
    from perceiver.recipe import build_recipe  # Lightning takes seconds to import

    task, _ = build_recipe(file)
    return task.model
