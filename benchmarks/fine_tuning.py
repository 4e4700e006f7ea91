"""Is a pretrained latent array worth anything on a dataset that it never saw? Each of the recipes is left out in turn.

    python benchmarks/fine_tuning.py pretrain mnist             on others, which have nothing of MNIST
    python benchmarks/fine_tuning.py tune mnist all 0           MNIST, from these weights, in one of the ways below, seed 0
    python benchmarks/fine_tuning.py report --made "where, day" what was trained so far: docs/fine_tuning.svg, benchmarks/results/fine_tuning.json

Everything has the model and augmentation of `configs/mixed.yaml`, and its optimizer, with the learning rate that suits each way. The sums of digits
hold MNIST's pictures and the recordings of the spoken digits, so they are not among what those two are pretrained on; the sums themselves are
pretrained on both. An adapter that the pretraining did not have starts anew, and so do queries and head of the target.

- `scratch`: everything starts anew;
- `all`: everything that was pretrained is loaded, and all of it learns, for a third of the steps;
- `small`: as `all`, but reads, layers and decoder stay as they are: latents, adapters, queries and head learn;
- `head`: as `all`, but the whole encoder stays as it is.
"""

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from marked import filled

from perceiver.cli import main as run
from perceiver.run_folder import RunFolder

RUNS, RECORDED, FIGURE = Path("runs/fine_tuning"), Path("benchmarks/results/fine_tuning.json"), Path("docs/fine_tuning.svg")
PAGE, START, STOP = Path("docs/fine_tuning.md"), "<!-- results of fine-tuning -->", "<!-- end of the results -->"
ENTRIES = {
    "mnist": ["image"],
    "spoken_digits": ["audio"],
    "banking77": ["text"],
    "digit_sums": ["image", "audio"],
    "quickstart": ["image", "audio", "text"],
}
CHANCE = {"mnist": 0.1, "spoken_digits": 0.1, "banking77": 1 / 77, "digit_sums": 0.1, "quickstart": 0.2}
WITHOUT = {
    "mnist": ["banking77", "quickstart"],
    "spoken_digits": ["mnist", "banking77", "quickstart"],
    "banking77": ["mnist", "spoken_digits", "digit_sums", "quickstart"],
    "digit_sums": ["mnist", "spoken_digits", "banking77", "quickstart"],
    "quickstart": ["mnist", "spoken_digits", "banking77", "digit_sums"],
}
PRETRAIN_STEPS = 12_000
STEPS = {"mnist": 1_200, "spoken_digits": 900, "banking77": 600, "digit_sums": 600, "quickstart": 600}  # about four minutes on one core


@dataclass(frozen=True)
class Way:
    """How a target is trained.

    Args:
        color: of its curve.
        learning_rate: the best of a few, by validation; docs/log.md has the others.
        frozen: parts that never learn.
    """

    color: str
    learning_rate: float
    frozen: tuple[str, ...] = ()


WAYS = {
    "scratch": Way("0.5", 2e-3),
    "all": Way("#d62728", 4e-3),
    "small": Way("#2ca02c", 4e-3, frozen=("cross_attends", "stacks", "decoder")),
    "head": Way("#9467bd", 4e-3, frozen=("encoder",)),
}
VALIDATIONS = 20
SEEDS = (0, 1, 2)


def config(datasets: list[str], steps: int, folder: Path, seed: int) -> dict[str, Any]:
    """`configs/mixed.yaml` with some of its datasets, the adapters that they need, and another number of steps."""
    found = yaml.safe_load(Path("configs/mixed.yaml").read_text())
    found |= {"run_dir": str(folder), "seed_everything": seed}
    found["trainer"] |= {"max_steps": steps, "callbacks": [], "enable_progress_bar": False}
    task = found["model"]["init_args"]
    task["warmup_steps"] = min(task["warmup_steps"], steps // 10)
    data, model = found["data"]["init_args"], task["model"]["init_args"]
    known = data["datasets"] | {"quickstart": quickstart(data["datasets"]["digit_sums"])}
    data["datasets"] = {name: known[name] for name in datasets}
    data["steps_per_epoch"] = steps // VALIDATIONS
    needed = {entry for name in datasets for entry in ENTRIES[name]}
    model["adapters"] = {name: adapter for name, adapter in model["adapters"].items() if name in needed}
    return found


def quickstart(sums: dict[str, Any]) -> dict[str, Any]:
    """The quickstart's dataset with pictures of MNIST's size, augmented as the sums of digits are, but for what is left out of them."""
    source = {"class_path": "perceiver.data.QuickstartQuestions", "init_args": {"size": [28, 28]}}
    augment = [one for one in sums["augment"] if one["class_path"] != "perceiver.data.Missing"]
    return {"source": source, "weight": sums["weight"], "augment": augment}


def train(content: dict[str, Any]) -> None:
    """Runs a configuration, unless it has run to its end before."""
    folder = Path(content["run_dir"])
    if (folder / "metrics.json").exists():
        print(f"{folder} is there already")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    if code := run(["fit", "--config", str(file)]):
        sys.exit(code)


def pretrained(target: str) -> Path:
    """The run on others than the target. Targets with the same others share it."""
    return RUNS / f"on_{'_'.join(WITHOUT[target])}"


def pretrain(target: str) -> None:
    """Trains on others than the target."""
    train(config(WITHOUT[target], PRETRAIN_STEPS, pretrained(target), 0))


def steps(target: str, how: str) -> int:
    """How many steps a run has, warm-up and cosine included."""
    return STEPS[target] if how == "scratch" else STEPS[target] // 3


def tune(target: str, how: str, seed: int) -> None:
    """Trains on the target."""
    content = config([target], steps(target, how), RUNS / f"{target}_{how}_{seed}", seed)
    content["trainer"]["limit_val_batches"] = 4  # a thousand rows; the test has all
    content["model"]["init_args"]["learning_rate"] = WAYS[how].learning_rate
    if how != "scratch":
        source = pretrained(target) / "checkpoints/best.ckpt"
        if not source.exists():
            sys.exit(f"error: {source} is not there: python benchmarks/fine_tuning.py pretrain {target}")
        known = {entry for name in WITHOUT[target] for entry in ENTRIES[name]}
        new = ["heads", "queries", *(f"adapters.{entry}" for entry in ENTRIES[target] if entry not in known)]
        options = content["model"]["init_args"]
        options["init_from"] = {"class_path": "perceiver.pretrained.InitFrom", "init_args": {"source": str(source), "new": new}}
        options["fine_tuning"] = {"class_path": "perceiver.tasks.FineTuning", "init_args": {"freeze": dict.fromkeys(WAYS[how].frozen)}}
    train(content)


def curve(folder: Path, target: str) -> dict[int, float]:
    """Validation accuracy by step."""
    with open(folder / "metrics.csv", newline="") as file:
        lines = [line for line in csv.DictReader(file) if line.get(f"val/accuracy/{target}")]
    return {int(line["step"]) + 1: float(line[f"val/accuracy/{target}"]) for line in lines}


def collected(made: str) -> dict[str, dict[str, Any]]:
    """Of each target and way: the mean curve over the seeds, test accuracies, and seconds. What was recorded before stays, unless it ran again."""
    found: dict[str, dict[str, Any]] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    for target in ENTRIES:
        for how in WAYS:
            folders = [RUNS / f"{target}_{how}_{seed}" for seed in SEEDS]
            if all((folder / "metrics.json").exists() for folder in folders):
                curves = [curve(folder, target) for folder in folders]
                metrics = [RunFolder(folder).metrics() for folder in folders]
                found.setdefault(target, {})[how] = {
                    "made": made,
                    "pretrained_on": [] if how == "scratch" else WITHOUT[target],
                    "curve": {step: mean(one[step] for one in curves) for step in curves[0]},
                    "test": [one[f"test/accuracy/{target}"] for one in metrics],
                    "seconds": [one["train/seconds"] for one in metrics],
                }
    return found


def report(made: str) -> None:
    """Records what was trained, writes the table into the page, and draws the curves."""
    RECORDED.write_text(json.dumps(collected(made), indent=1) + "\n")
    found = json.loads(RECORDED.read_text())
    PAGE.write_text(page(PAGE.read_text()))
    print(table(found))
    draw(found)


def page(text: str) -> str:
    """The page on fine-tuning with the table in its place."""
    return filled(text, START, STOP, table(json.loads(RECORDED.read_text())))


def table(found: dict[str, Any]) -> str:
    """The table, and where it comes from."""
    places = sorted({one["made"] for ways in found.values() for one in ways.values()})
    lines = [
        f"Made by `python benchmarks/fine_tuning.py` on {'; '.join(places)}; means of {len(SEEDS)} seeds, and each of them.",
        "",
        "| target | start | pretrained on | steps | seconds | validation accuracy at the end, % | test accuracy, % | reaches `scratch` after |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for target, ways in found.items():
        for how, one in ways.items():
            told = "" if how == "scratch" else compared(one["curve"], ways["scratch"]["curve"], target)
            tests = f"{100 * mean(one['test']):.1f} ({', '.join(f'{100 * value:.1f}' for value in one['test'])})"
            seconds, validation = f"{mean(one['seconds']):.0f}", f"{100 * last(one['curve']):.1f}"
            lines.append(
                f"| {target} | `{how}` | {', '.join(one['pretrained_on'])} | {list(one['curve'])[-1]} | {seconds} | {validation} | {tests} | {told} |"
            )
    return "\n".join(lines)


def compared(curve: dict[Any, float], scratch: dict[Any, float], target: str) -> str:
    """After how many steps a curve is as high as that of `scratch` at its end, and what share that is of the steps that `scratch` took."""
    goal = last(scratch)
    if goal < 2 * CHANCE[target]:
        return "`scratch` has learned nothing"
    enough = goal - 1e-6  # as many right answers may have means that differ in the last digit
    step = next((int(step) for step, value in curve.items() if value >= enough), None)  # JSON makes words of steps
    return "not within its steps" if step is None else f"{step} steps, {100 * step / int(list(scratch)[-1]):.0f} %"


def last(curve: dict[Any, float]) -> float:
    """Where a curve ends."""
    return list(curve.values())[-1]


def draw(found: dict[str, dict[str, Any]]) -> None:
    """The curves, a panel a target; dotted, the last accuracy of `scratch` and a third of its steps."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "perceiver"  # the same file each time
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(found), figsize=(3.6 * len(found), 3.4), squeeze=False, layout="constrained")
    lines = {}
    for panel, (target, ways) in zip(panels[0], found.items(), strict=True):
        for how, one in ways.items():
            (lines[how],) = panel.plot([int(step) for step in one["curve"]], [100 * value for value in one["curve"].values()], color=WAYS[how].color)
        panel.axhline(100 * last(ways["scratch"]["curve"]), color="0.6", linestyle=":", linewidth=1)
        end = int(list(ways["scratch"]["curve"])[-1])
        panel.axvline(end / 3, color="0.6", linestyle=":", linewidth=1)
        panel.set(title=target, xlabel="step", ylim=(0, 101), xlim=(0, end))
        panel.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel("validation accuracy, %")
    figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=len(lines), frameon=False)
    figure.savefig(FIGURE, metadata={"Date": None})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("pretrain").add_argument("target", choices=ENTRIES)
    tuning = commands.add_parser("tune")
    tuning.add_argument("target", choices=ENTRIES)
    tuning.add_argument("how", choices=WAYS)
    tuning.add_argument("seed", type=int)
    commands.add_parser("report").add_argument("--made", required=True, help="on what hardware, and when")
    options = parser.parse_args()
    if options.command == "pretrain":
        pretrain(options.target)
    elif options.command == "tune":
        tune(options.target, options.how, options.seed)
    else:
        report(options.made)


if __name__ == "__main__":
    main()
