"""Models of published size, explained: time and the most memory that the process ever held.

    python benchmarks/explain_published.py imagenet --rows 2 --budget 300
    python benchmarks/explain_published.py multimodal --rows 2 --budget 300

Weights and inputs are random, so what the report says of them is of no interest; that no full map is held is. The budget is in passes over the rows.
"""

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from perceiver.explain import report
from perceiver.pretrained.architectures import PUBLISHED, architecture
from perceiver.pretrained.semantics import semantics

NAMES = {"imagenet": "deepmind/vision-perceiver-fourier", "multimodal": "deepmind/multimodal-perceiver"}
NOWHERE = torch.zeros(0, dtype=torch.long)


def rows_of(kind: str, rows: int) -> dict[str, torch.Tensor]:
    """Random inputs of full size."""
    draw = torch.Generator().manual_seed(0)
    if kind == "imagenet":
        return {"image": torch.rand(rows, 3, 224, 224, generator=draw), "target": torch.randint(1000, (rows,), generator=draw)}
    return {
        "image": torch.rand(rows, 16, 3, 224, 224, generator=draw),
        "audio": torch.rand(rows, 30_720, 1, generator=draw) - 0.5,
        "label": torch.softmax(torch.randn(rows, 700, generator=draw), -1),
        "target": torch.randint(700, (rows,), generator=draw),
    }


def main() -> None:
    """Builds a model, and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=NAMES)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--budget", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path, default=None)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    config = PUBLISHED[NAMES[given.kind]]
    model: Any = architecture(config.architecture).build(config, semantics("hf")).eval()
    asked = None if given.kind == "imagenet" else lambda batch: model(batch, {"image": NOWHERE, "audio": NOWHERE})["label"]
    console, started = Console(width=160), time.perf_counter()
    found = report(
        model,
        [rows_of(given.kind, given.rows)],
        rows=given.rows,
        samples=given.rows,
        scores=asked,
        budget_passes=given.budget,
        tell=lambda line: console.print(f"{time.perf_counter() - started:7.0f} s  {line}", highlight=False, markup=False),
    )
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"{given.kind}: {given.rows} rows in {time.perf_counter() - started:.0f} s, at most {most:.1f} GB", highlight=False)
    if given.write is not None:
        found.write(given.write)
        console.print(f"page of {(given.write / 'report.html').stat().st_size / 1e6:.1f} MB in {given.write}", highlight=False)


if __name__ == "__main__":
    main()
