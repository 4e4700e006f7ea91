"""Speed and memory beside the peers, one command: attention to large inputs, whole models, growth with the input, steps of recipes.

    python benchmarks/run.py [--rows NAME ...] [--repeats 5] [--threads 2] [--json FILE] [--record "where, day"]
    python benchmarks/run.py --profile NAME [--threads 2]

Of each row, a process builds both sides with the same weights, compares their outputs, and times them in turn; times are medians of the wall clock,
after one pass that warms up. A fresh process for each side then tells the most memory that a pass takes above what was there before it. The JSON is a
list of {row, peer, peer_s, ours_s, ratio, error, peer_bytes, ours_bytes}; error is the norm of the difference of the outputs over the peer's norm.
A recipe's row (`quickstart`, `mixed`) has no peer and no memory: ours_s is the median of its training steps, `--repeats` times 34 of them, and it has
{samples_per_s, outside} more, as `recipes.Cost` says.
`--record` keeps the lines, with where and when, in results/speed.json, and writes the table of docs/performance.md.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from marked import filled
from recipes import RECIPES, trained
from subjects import ROWS, Row, Subject
from torch.profiler import ProfilerActivity, profile

NAMES = (*ROWS, *RECIPES)
RECORDED, PAGE = Path("benchmarks/results/speed.json"), Path("docs/performance.md")
START, STOP = "<!-- speed beside the peers -->", "<!-- end of the table -->"


def one_pass(subject: Subject, row: Row) -> torch.Tensor:
    """A forward pass, and in a step the backward pass of its sum of squares."""
    for leaf in subject.learns if row.step else ():
        leaf.grad = None
    with torch.inference_mode(not row.step), torch.autocast("cpu", torch.bfloat16, enabled=row.bf16):
        out = subject.run()
    if row.step:
        out.float().square().sum().backward()
    return out.detach()


def timed(row: str, peer: str, repeats: int) -> dict[str, Any]:
    """Seconds of both sides, in turn, and the distance of their outputs."""
    kind = ROWS[row]
    repeats = min(repeats, kind.repeats or repeats)
    sides = {name: kind.build(name) for name in ("ours", *([peer] if peer else []))}
    outputs = {name: one_pass(side, kind).float() for name, side in sides.items()}
    laps: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            one_pass(side, kind)
            laps[name].append(time.perf_counter() - start)
    error = None
    if peer and kind.same:
        error = float((outputs["ours"] - outputs[peer]).norm() / outputs[peer].norm())
    return {"seconds": {name: median(times) for name, times in laps.items()}, "error": error}


def status(key: str) -> int:
    """A line of the kernel's account of this process's memory, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def weighed(row: str, name: str) -> int:
    """The most bytes that a pass holds above what was there before it."""
    subject = ROWS[row].build(name)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what building it left free is not there for the pass to take
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    one_pass(subject, ROWS[row])
    return status("VmHWM") - before


def apart(*arguments: str) -> Any:
    """`timed`, `weighed` or `trained` in a process of its own; None where it died."""
    done = subprocess.run([sys.executable, __file__, "--one", *arguments], capture_output=True, text=True)
    if done.returncode:
        print(f"{' '.join(arguments)} failed: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def alone(what: str, row: str, *more: str) -> Any:
    """What such a process finds."""
    if what == "timed":
        return timed(row, more[0], int(more[1]))
    return weighed(row, more[0]) if what == "weighed" else asdict(trained(row, int(more[0])))


def measured(row: str, peer: str, repeats: int) -> dict[str, Any]:
    """A line of the result; a side that cannot be measured has None."""
    empty = {"row": row, "peer": peer or None, **dict.fromkeys(("peer_s", "ours_s", "ratio", "error", "peer_bytes", "ours_bytes"))}
    if row in RECIPES:
        cost = apart("trained", row, str(repeats)) or {"step_s": None, "samples_per_s": None, "outside": None}
        return empty | {"ours_s": cost.pop("step_s")} | cost
    times = apart("timed", row, peer, str(repeats)) or {"seconds": {}, "error": None}
    mine, other = times["seconds"].get("ours"), times["seconds"].get(peer)
    return empty | {
        "peer_s": other,
        "ours_s": mine,
        "ratio": other / mine if mine and other else None,
        "error": times["error"],
        "peer_bytes": apart("weighed", row, peer) if peer else None,
        "ours_bytes": apart("weighed", row, "ours"),
    }


def shown(value: float | None, form: str, unit: str = "") -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:{form}}{unit}"


def line(found: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [
        f"{found['row']:26}{found['peer'] or '':18}",
        f"{shown(found['ours_s'], '.4f', ' s'):>12}{shown(found['peer_s'], '.4f', ' s'):>12}{shown(found['ratio'], '.1f', 'x'):>8}",
        f"{shown(found['error'], '.0e'):>8}",
    ]
    if found["row"] in RECIPES:
        return (
            "".join(cells) + f"   {shown(found['samples_per_s'], ',.0f')} samples/s, {shown(found['outside'], '.0%')} outside products and attention"
        )
    for key in ("ours_bytes", "peer_bytes"):
        cells.append(f"{shown(None if found[key] is None else found[key] / 2**20, ',.0f', ' MB'):>11}")
    return "".join(cells)


def record(results: list[dict[str, Any]], made: str) -> None:
    """Keeps what was measured in the place of what was measured before, and writes the page's table."""
    before = json.loads(RECORDED.read_text()) if RECORDED.exists() else []
    kept = {(one["row"], one["peer"]): one for one in before}
    kept.update({(one["row"], one["peer"]): one | {"made": made} for one in results})
    RECORDED.write_text(json.dumps(sorted(kept.values(), key=lambda one: NAMES.index(one["row"])), indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text()))


def page(text: str) -> str:
    """The page on performance with the table in its place."""
    return filled(text, START, STOP, table(json.loads(RECORDED.read_text())))


def table(results: list[dict[str, Any]]) -> str:
    """The lines as the page shows them: beside the peers, and below them the recipes."""
    lines = [
        f"Made by `python benchmarks/run.py` on {'; '.join(sorted({one['made'] for one in results}))}. Milliseconds, and MB above what was there "
        "before the pass.",
        "",
        "| row | peer | ours, ms | peer, ms | ratio | distance of outputs | ours, MB | peer, MB | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        if one["row"] in RECIPES:
            continue
        mine, other = one["ours_bytes"], one["peer_bytes"]
        cells = [
            one["row"],
            one["peer"] or "",
            *("" if s is None else f"{1000 * s:,.1f}" for s in (one["ours_s"], one["peer_s"])),
            "" if one["ratio"] is None else f"{one['ratio']:.1f}",
            "" if one["error"] is None else f"{one['error']:.0e}",
            *("" if b is None else f"{b / 2**20:,.0f}" for b in (mine, other)),
            f"{other / mine:.1f}" if mine and other else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *recipe_lines([one for one in results if one["row"] in RECIPES])])


def recipe_lines(results: list[dict[str, Any]]) -> list[str]:
    """The table of the recipes, where there are any."""
    if not results:
        return []
    head = ["", "| recipe | a step, ms | samples a second | outside products and attention, % |", "|---|---|---|---|"]
    forms = (("ours_s", 1000, ",.1f"), ("samples_per_s", 1, ",.0f"), ("outside", 100, ".0f"))
    cells = [["" if one[key] is None else f"{scale * one[key]:{form}}" for key, scale, form in forms] for one in results]
    return [*head, *(f"| `{RECIPES[one['row']]}` | {' | '.join(found)} |" for one, found in zip(results, cells, strict=True))]


def profiled(row: str) -> str:
    """The operations that our side of a row spends most of its time in, after a pass that warms up."""
    subject, kind = ROWS[row].build("ours"), ROWS[row]
    one_pass(subject, kind)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        one_pass(subject, kind)
    return seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=NAMES, choices=NAMES, metavar="NAME", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="all cores when not given; a recipe leaves its data workers some of them")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--record", metavar="WHERE", help="on what hardware, and when")
    parser.add_argument("--profile", choices=ROWS, metavar="NAME", help="says instead which operations our side of a row spends its time in")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.profile:
        torch.set_num_threads(options.threads or torch.get_num_threads())
        print(profiled(options.profile))
        return
    if options.one:
        print(json.dumps(alone(*options.one)))
        return
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # of the processes that measure; a recipe heeds it, too
    print(f"{'':26}{'peer':18}{'ours':>12}{'theirs':>12}{'ratio':>8}{'error':>8}{'ours':>11}{'theirs':>11}")
    results = []
    for row in options.rows:
        for peer in (ROWS[row].peers if row in ROWS else ()) or ("",):
            results.append(measured(row, peer, options.repeats))
            print(line(results[-1]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.record:
        record(results, options.record)


if __name__ == "__main__":
    main()
