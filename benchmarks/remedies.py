"""What are the remedies for a starved modality worth? Each is a switch on `configs/starved.yaml`, and each is trained with three seeds.

    python benchmarks/remedies.py                               trains what was not trained yet: runs/remedies/
    python benchmarks/remedies.py --remedies balance --seeds 1  one of them
    python benchmarks/remedies.py --steps 4 --seeds 0           whether all run, for a few steps: runs/remedies_4_steps/, and nothing is recorded
    python benchmarks/remedies.py report --made "where, day"    benchmarks/results/remedies.json, and the table in docs/remedies.md

- `none`: the starved recipe as it is;
- `modality_dropout`: in training, each modality is hidden from a row with a probability of 0.3;
- `balance`: of picture and sound, the one that answers better alone learns more slowly (OGM-GE);
- `registers`: four learned tokens that the latents may look at instead of an input;
- `qk_norm`: normed queries and keys in all attention;
- `standardised`: the cause is taken away: the quickstart's standardised pixels, and data and position with equal weight.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from marked import filled
from rich.console import Console
from rich.table import Table

from perceiver.run_folder import RunFolder

RECIPE, RUNS, RECORDED = "configs/starved.yaml", Path("runs/remedies"), Path("benchmarks/results/remedies.json")
PAGE, START, STOP = Path("docs/remedies.md"), "<!-- results of remedies -->", "<!-- end of the results -->"
KINDS = ("written", "spoken")
SEEDS = (0, 1, 2)
MODEL = "--model.init_args.model.init_args"
ENCODER, DECODER = f"{MODEL}.encoder.init_args", f"{MODEL}.decoder.init_args"
NORMED = "attention=perceiver.qk_norm.NormedAttention"
BALANCE = {"class_path": "perceiver.tasks.BalanceModalities", "init_args": {"alpha": 0.5, "modalities": ["image", "audio"]}}
REMEDIES = {
    "none": [],
    "modality_dropout": [f"{MODEL}.modality_dropout=perceiver.ModalityDropout", f"{MODEL}.modality_dropout.probability=0.3"],
    "balance": [f"--trainer.callbacks+={json.dumps(BALANCE)}"],
    "registers": [
        f"{ENCODER}.registers=perceiver.registers.Registers",
        f"{ENCODER}.registers.num_registers=4",
        f"{ENCODER}.registers.dim=64",
    ],
    "qk_norm": [f"{part}.init_args.{NORMED}" for part in (f"{ENCODER}.cross_block", f"{ENCODER}.self_block", f"{DECODER}.cross_block")],
    "standardised": [
        f"{MODEL}.adapters.image.init_args.mean=0.306",
        f"{MODEL}.adapters.image.init_args.std=0.377",
        f"{MODEL}.project=perceiver.adapters.projection",
    ],
}


def folder_of(remedy: str, seed: int, steps: int | None) -> Path:
    """Where a run is kept."""
    return (RUNS if steps is None else RUNS.with_name(f"{RUNS.name}_{steps}_steps")) / f"{remedy}_{seed}"


def tested(folder: Path) -> dict[str, float] | None:
    """The results of a run, if it has run to its end."""
    metrics = RunFolder(folder).metrics() if (folder / "metrics.json").exists() else {}
    return metrics if all(f"test/accuracy/{kind}" in metrics for kind in KINDS) else None


def command(remedy: str, seed: int, steps: int | None) -> list[str]:
    """How a run is started."""
    options = ["--run_dir", str(folder_of(remedy, seed, steps)), "--seed_everything", str(seed), "--trainer.enable_progress_bar", "false"]
    if steps is not None:
        options += ["--trainer.max_steps", str(steps), "--model.init_args.warmup_steps", "1", "--data.init_args.steps_per_epoch", str(steps)]
        options += ["--trainer.log_every_n_steps", "1", "--data.init_args.val_rows", "40", "--data.init_args.test_rows", "40"]
    return [sys.executable, "train.py", "fit", "--config", RECIPE, *options, *REMEDIES[remedy]]


def train(remedies: list[str], seeds: list[int], steps: int | None) -> None:
    """Trains what was not trained yet, one run after another."""
    for seed in seeds:
        for remedy in remedies:
            if tested(folder_of(remedy, seed, steps)) is None:
                Console().print(f"{remedy}, seed {seed}", highlight=False)
                done = subprocess.run(command(remedy, seed, steps), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                if done.returncode:
                    sys.exit(f"error: {remedy}, seed {seed}, failed:\n{done.stdout[-3000:]}")


def collected(steps: int | None) -> dict[str, Any]:
    """Of each remedy whose seeds have all run: test accuracies of all kinds of question, seed by seed, and seconds of training."""
    found: dict[str, Any] = {}
    for remedy in REMEDIES:
        runs = [metrics for seed in SEEDS if (metrics := tested(folder_of(remedy, seed, steps)))]
        if runs and (len(runs) == len(SEEDS) or steps is not None):
            accuracies = [key for key in runs[0] if key.startswith("test/accuracy/")]
            found[remedy] = {"test": {key.removeprefix("test/accuracy/"): [run[key] for run in runs] for key in accuracies}}
            found[remedy]["seconds"] = [run["train/seconds"] for run in runs]
    return found


def cell(values: list[float]) -> str:
    """The mean in per cent, and each seed."""
    return f"{100 * mean(values):.1f} ({', '.join(f'{100 * value:.1f}' for value in values)})"


def shown(remedies: dict[str, Any]) -> Table:
    """What was trained so far, for the eye."""
    found = Table("remedy", *KINDS, "seconds", title="Test accuracy, %: mean and each seed")
    for remedy, one in remedies.items():
        found.add_row(remedy, *(cell(one["test"][kind]) for kind in KINDS), f"{mean(one['seconds']):.0f}")
    return found


def report(made: str) -> None:
    """Records what was trained, and writes the table into the page."""
    RECORDED.write_text(json.dumps({"made": made, "remedies": collected(None)}, indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text()))


def page(text: str) -> str:
    """The page on remedies with the table in its place."""
    return filled(text, START, STOP, table(json.loads(RECORDED.read_text())))


def table(recorded: dict[str, Any]) -> str:
    """The table, and where it comes from."""
    lines = [
        f"Made by `python benchmarks/remedies.py` on {recorded['made']}; means of {len(SEEDS)} seeds, and each of them.",
        "",
        "| remedy | " + " | ".join(f"`{kind}`, test accuracy, %" for kind in KINDS) + " | seconds |",
        "|---|---|---|---|",
    ]
    for remedy, one in recorded["remedies"].items():
        lines.append(f"| `{remedy}` | " + " | ".join(cell(one["test"][kind]) for kind in KINDS) + f" | {mean(one['seconds']):.0f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("train", "report"), default="train")
    parser.add_argument("--made", help="on what hardware, and when: for the report")
    parser.add_argument("--remedies", nargs="+", choices=REMEDIES, default=list(REMEDIES))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--steps", type=int, help="for a trial: so many steps, on few rows")
    options = parser.parse_args()
    if options.what == "train":
        train(options.remedies, options.seeds, options.steps)
    elif not options.made:
        sys.exit("error: say on what hardware and when the runs were made: --made")
    else:
        report(options.made)
    Console().print(shown(collected(options.steps)))


if __name__ == "__main__":
    main()
