"""Speed and memory beside the peers, one command: attention to large inputs, whole models, growth with the input.

    python benchmarks/run.py [--rows NAME ...] [--repeats 5] [--threads 2] [--json FILE] [--record "where, day"]

Of each row, a process builds both sides with the same weights, compares their outputs, and times them in turn; times are medians of the wall clock,
after one pass that warms up. A fresh process for each side then tells the most memory that a pass takes above what was there before it. The JSON is a
list of {row, peer, peer_s, ours_s, ratio, error, peer_bytes, ours_bytes}; error is the norm of the difference of the outputs over the peer's norm.
`--record` keeps the lines, with where and when, in results/speed.json, and writes the table of docs/performance.md.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from subjects import ROWS, Subject

RECORDED, PAGE = Path("benchmarks/results/speed.json"), Path("docs/performance.md")
START, STOP = "<!-- speed beside the peers -->", "<!-- end of the table -->"


def one_pass(subject: Subject, step: bool) -> torch.Tensor:
    """A forward pass, and in a step the backward pass of its sum of squares."""
    if not step:
        with torch.inference_mode():
            return subject.run()
    for leaf in subject.learns:
        leaf.grad = None
    out = subject.run()
    out.square().sum().backward()
    return out.detach()


def timed(row: str, peer: str, repeats: int) -> dict[str, Any]:
    """Seconds of both sides, in turn, and the distance of their outputs."""
    kind = ROWS[row]
    sides = {name: kind.build(name) for name in ("ours", *([peer] if peer else []))}
    outputs = {name: one_pass(side, kind.step) for name, side in sides.items()}
    laps: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            one_pass(side, kind.step)
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
    one_pass(subject, ROWS[row].step)
    return status("VmHWM") - before


def apart(threads: int, *arguments: str) -> Any:
    """`timed` or `weighed` in a process of its own; None where it died."""
    command = [sys.executable, __file__, "--threads", str(threads), "--one", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{' '.join(arguments)} failed: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def measured(row: str, peer: str, repeats: int, threads: int) -> dict[str, Any]:
    """A line of the result; a side that cannot be measured has None."""
    times = apart(threads, "timed", row, peer, str(repeats)) or {"seconds": {}, "error": None}
    mine, other = times["seconds"].get("ours"), times["seconds"].get(peer)
    return {
        "row": row,
        "peer": peer or None,
        "peer_s": other,
        "ours_s": mine,
        "ratio": other / mine if mine and other else None,
        "error": times["error"],
        "peer_bytes": apart(threads, "weighed", row, peer) if peer else None,
        "ours_bytes": apart(threads, "weighed", row, "ours"),
    }


def line(found: dict[str, Any]) -> str:
    """A line of the table."""

    def shown(value: float | None, form: str, unit: str = "") -> str:
        return "-" if value is None else f"{value:{form}}{unit}"

    cells = [
        f"{found['row']:26}{found['peer'] or '':18}",
        f"{shown(found['ours_s'], '.4f', ' s'):>12}{shown(found['peer_s'], '.4f', ' s'):>12}{shown(found['ratio'], '.1f', 'x'):>8}",
        f"{shown(found['error'], '.0e'):>8}",
    ]
    for key in ("ours_bytes", "peer_bytes"):
        cells.append(f"{shown(None if found[key] is None else found[key] / 2**20, ',.0f', ' MB'):>11}")
    return "".join(cells)


def record(results: list[dict[str, Any]], made: str) -> None:
    """Keeps what was measured in the place of what was measured before, and writes the page's table."""
    before = json.loads(RECORDED.read_text()) if RECORDED.exists() else []
    kept = {(one["row"], one["peer"]): one for one in before}
    kept.update({(one["row"], one["peer"]): one | {"made": made} for one in results})
    RECORDED.write_text(json.dumps(sorted(kept.values(), key=lambda one: list(ROWS).index(one["row"])), indent=1) + "\n")
    PAGE.write_text(page(PAGE.read_text()))


def page(text: str) -> str:
    """The page on performance with the table in its place."""
    before, rest = text.split(START)
    return f"{before}{START}\n\n{table(json.loads(RECORDED.read_text()))}\n\n{STOP}{rest.split(STOP)[1]}"


def table(results: list[dict[str, Any]]) -> str:
    """The lines as the page shows them."""
    lines = [
        f"Made by `python benchmarks/run.py` on {'; '.join(sorted({one['made'] for one in results}))}. Milliseconds, and MB above what was there "
        "before the pass.",
        "",
        "| row | peer | ours, ms | peer, ms | ratio | distance of outputs | ours, MB | peer, MB | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
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
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="NAME", help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--record", metavar="WHERE", help="on what hardware, and when")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        what, row, name, *repeats = options.one
        print(json.dumps(timed(row, name, int(repeats[0])) if what == "timed" else weighed(row, name)))
        return
    print(f"{'':26}{'peer':18}{'ours':>12}{'theirs':>12}{'ratio':>8}{'error':>8}{'ours':>11}{'theirs':>11}")
    results = []
    for row in options.rows:
        for peer in ROWS[row].peers or ("",):
            results.append(measured(row, peer, options.repeats, options.threads))
            print(line(results[-1]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.record:
        record(results, options.record)


if __name__ == "__main__":
    main()
