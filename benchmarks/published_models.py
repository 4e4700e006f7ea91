"""The six published architectures at their published sizes, beside transformers: time and peak memory of forward and training step, same numbers.

    python benchmarks/published_models.py [NAME ...] [--repeats 3] [--threads 2] [--json FILE] [--record "where, day"]

`--record` keeps what was measured, with where and when, in results/published_models.json, and writes the table of docs/fine_tuning.md.

Weights are random, and the same on both sides. Each measurement runs in a process of its own, one after the other, ours and theirs in turn;
times are medians, and memory is the greatest that the process ever held. The autoencoder writes a sixteenth of the places, since transformers
cannot write all of them.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from marked import filled
from torch import Tensor

NAMES = ("language", "vision-learned", "vision-fourier", "vision-conv", "flow", "multimodal")
HUB = {
    "language": "deepmind/language-perceiver",
    "vision-learned": "deepmind/vision-perceiver-learned",
    "vision-fourier": "deepmind/vision-perceiver-fourier",
    "vision-conv": "deepmind/vision-perceiver-conv",
    "flow": "deepmind/optical-flow-perceiver",
    "multimodal": "deepmind/multimodal-perceiver",
}
RECORDED, PAGE = Path("benchmarks/results/published_models.json"), Path("docs/fine_tuning.md")
START, STOP = "<!-- the published models beside transformers -->", "<!-- end of the published models -->"
PLACES = {"image": torch.arange(0, 16 * 224 * 224, 16), "audio": torch.arange(0, 1_920, 16)}


def entries(name: str) -> dict[str, Tensor]:
    """Inputs of one row, the same each time."""
    draw = torch.Generator().manual_seed(0)
    if name == "language":
        return {"text": torch.randint(6, 262, (1, 2048), generator=draw), "text_mask": torch.ones(1, 2048, dtype=torch.bool)}
    if name == "flow":
        return {"frames": torch.rand(1, 2, 27, 368, 496, generator=draw) * 2 - 1}
    if name == "multimodal":
        video = torch.rand(1, 16, 3, 224, 224, generator=draw)
        return {"image": video, "audio": torch.rand(1, 30_720, 1, generator=draw) * 2 - 1, "label": torch.zeros(1, 700)}
    return {"image": torch.randn(1, 3, 224, 224, generator=draw)}


def write_weights(name: str, folder: Path) -> None:
    """A model of transformers with random weights and the published numbers, as it saves one."""
    from dataclasses import asdict

    import transformers

    from perceiver.pretrained.architectures import PUBLISHED

    config = PUBLISHED[HUB[name]]
    numbers = {key: value for key, value in asdict(config).items() if key != "architecture"} | {"attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    getattr(transformers, config.architecture)(transformers.PerceiverConfig(**numbers)).save_pretrained(folder)


def ours(name: str, folder: Path) -> Callable[[], dict[str, Tensor]]:
    """Runs this library's model."""
    import perceiver

    model, batch = perceiver.from_pretrained(folder).train(), entries(name)
    for module in model.modules():  # statistics of batch norms stay, as on the other side
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    if name == "multimodal":
        return lambda: model(batch, PLACES)
    return lambda: {"": model(batch)}


def theirs(name: str, folder: Path) -> Callable[[], dict[str, Tensor]]:
    """Runs the model of transformers."""
    import transformers

    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    model, batch = getattr(transformers, kind).from_pretrained(folder).train(), entries(name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    if name == "multimodal":
        return lambda: dict(model(inputs=batch, subsampled_output_points=PLACES | {"label": None}).logits)
    if name == "language":
        return lambda: {"": model(inputs=batch["text"], attention_mask=batch["text_mask"].float()).logits}
    return lambda: {"": model(inputs=next(iter(batch.values()))).logits}


def measure(subject: str, name: str, kind: str, folder: Path, repeats: int, threads: int) -> dict[str, Any]:
    """Seconds of each repeat, peak memory in MB, and a sample of the outputs."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(kind == "train")
    run = {"ours": ours, "transformers": theirs}[subject](name, folder)
    seconds = []
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        found = run()
        if kind == "train":
            sum(value.float().square().mean() for value in found.values()).backward()  # type: ignore[union-attr]
        seconds.append(time.perf_counter() - start)
    sample = {key: value.detach().flatten()[:: max(1, value.numel() // 1000)][:1000].tolist() for key, value in found.items()}
    return {"seconds": seconds[1:], "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "sample": sample}


def apart(*arguments: str) -> dict[str, Any]:
    """`measure` in a process of its own; what it died of, where it did."""
    done = subprocess.run([sys.executable, __file__, "--one", *arguments], capture_output=True, text=True)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or [f"killed ({-done.returncode})" if done.returncode < 0 else "?"]
        return {"failed": last[0][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def distance(one: dict[str, list[float]], other: dict[str, list[float]]) -> float:
    """The greatest relative distance of two outputs, over their parts."""
    pairs = [(torch.tensor(one[key]), torch.tensor(other[key])) for key in one]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--record", metavar="WHERE", help="on what hardware, and when")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        subject, name, kind, folder, repeats, threads = options.one
        print(json.dumps(measure(subject, name, kind, Path(folder), int(repeats), int(threads))))
        return
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"{', '.join(unknown)}: choose some of {', '.join(NAMES)}")
    results = []
    print(f"{'':16}{'':10}{'ours':>10}{'theirs':>10}{'ratio':>8}   {'ours':>9}{'theirs':>9}{'ratio':>8}   distance")
    for name in options.names:
        with tempfile.TemporaryDirectory() as place:
            write_weights(name, Path(place))
            for kind in ("forward", "train"):
                found = {who: apart(who, name, kind, place, str(options.repeats), str(options.threads)) for who in ("ours", "transformers")}
                print(line(name, kind, found), flush=True)
                far = distance(*(one.pop("sample") for one in found.values())) if not any("failed" in one for one in found.values()) else None
                results.append({"name": name, "kind": kind, "distance": far, "threads": options.threads, **found})
                if options.json:
                    options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.record:
        record(results, options.record)


def record(results: list[dict[str, Any]], made: str) -> None:
    """Keeps what was measured in the place of what was measured before, and writes the page's table."""
    kept = {(one["name"], one["kind"]): one for one in json.loads(RECORDED.read_text())}
    kept.update({(one["name"], one["kind"]): one | {"made": made} for one in results})
    RECORDED.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text()))


def page(text: str) -> str:
    """The page on fine-tuning with the table in its place."""
    return filled(text, START, STOP, table(json.loads(RECORDED.read_text())))


def table(results: list[dict[str, Any]]) -> str:
    """A line a model: seconds, and the most memory, of a forward pass and of a training step."""
    places = sorted({f"{one['made']}, {one['threads']} thread{'s' if one['threads'] > 1 else ''}" for one in results})
    rows = {(one["name"], one["kind"]): one for one in results}
    lines = [
        f"Made by `python benchmarks/published_models.py` on {'; '.join(places)}. Outputs differ by at most "
        f"{max(one['distance'] for one in results):.0e} of their norm.",
        "",
        "| model | forward, s: ours | transformers | MB: ours | transformers | step, s: ours | transformers | MB: ours | transformers |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(one["name"] for one in results):
        cells = [name]
        for kind in ("forward", "train"):
            mine, other = rows[name, kind]["ours"], rows[name, kind]["transformers"]
            cells += [f"{median(one['seconds']):.1f}" for one in (mine, other)] + [f"{one['megabytes']:,.0f}" for one in (mine, other)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def line(name: str, kind: str, found: dict[str, dict[str, Any]]) -> str:
    """A line of the table."""
    mine, other = found["ours"], found["transformers"]
    if "failed" in mine or "failed" in other:
        told = [
            f"{who}: {one['failed']}" if "failed" in one else f"{who}: {median(one['seconds']):.2f} s, {one['megabytes']:.0f} MB"
            for who, one in found.items()
        ]
        return f"{name:16}{kind:10}" + "; ".join(told)
    a, b, x, y = median(mine["seconds"]), median(other["seconds"]), mine["megabytes"], other["megabytes"]
    far = distance(mine["sample"], other["sample"])
    return f"{name:16}{kind:10}{a:8.2f} s{b:8.2f} s{b / a:7.1f}x   {x:6.0f} MB{y:6.0f} MB{y / x:7.1f}x   {far:.0e}"


if __name__ == "__main__":
    main()
