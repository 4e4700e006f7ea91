"""Attention to large inputs on a GPU, beside transformers and PyTorch's fused attention on the same layer with the same weights, one command.

    python benchmarks/gpu.py [--batches 1 32] [--json FILE] [--clock 1.98e9] [--record WHERE]

Two layers: the first attention of the published ImageNet model and that of the published autoencoder (its video alone), norms and projections
included, on tokens that are there already. Peers take each precision that they have: transformers and PyTorch's memory-efficient attention (heads
filled up with zeros to a multiple of 8) in float32 and under bf16 autocast; FlashAttention takes no head of more than 256 channels, so `flash-256`
reads the first 256 of them, which is a little less work and not the same numbers. `tiles` is this library without its kernels. Ours is float32
throughout. A batch of one is launched more slowly than it is computed, on both sides; rows called `graph` are replays of CUDA graphs, which launch
all at once. Rows called `model` are whole ImageNet models, both sides in the same precision.

Lines are {row, peer, peer_s, ours_s, ratio, error, peer_bytes, ours_bytes}: medians, the most memory above what was there before, and the norm of the
difference of outputs over the peer's. The last lines compare the sums over the grid alone with the least that the device's arithmetic could take.
`--record` keeps all of them in results/gpu.json, and writes the tables of docs/performance.md.
"""

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from marked import filled
from subjects import clip, picture, published
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer

from perceiver.grid_attention import operator, tiles

LAYERS = {"imagenet": ("vision-perceiver-fourier", picture, "image"), "video": ("multimodal-perceiver", clip, "image")}
RECORDED, PAGE = Path("benchmarks/results/gpu.json"), Path("docs/performance.md")
START, STOP = "<!-- speed on a GPU -->", "<!-- end of the tables of the GPU -->"
PRECISIONS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "": nullcontext,
    "-bf16": partial(torch.autocast, "cuda", torch.bfloat16),
}


def layers(name: str, rows: int) -> tuple[dict[str, Callable[[], Tensor]], list[Tensor]]:
    """The subjects by name, and what learns in a step."""
    architecture, batch, key = LAYERS[name]
    theirs, model = (module.cuda() for module in published(architecture))
    given = {name: value.cuda().repeat(rows, *[1] * (value.ndim - 1)) for name, value in batch().items()}
    x = theirs.perceiver.embeddings(rows).detach().clone().requires_grad_()
    block, layer = model.encoder.cross[0], theirs.perceiver.encoder.cross_attention.attention
    with torch.no_grad():
        segments = {key: model.inputs(given)[0][key]}
        tokens = segments[key].dense().features
    core = layer.self

    def fused(backend: SDPBackend, width: int | None = None) -> Tensor:
        q, y = core.query(core.layernorm1(x)), core.layernorm2(tokens)
        parts = [F.pad(t[..., :width], (0, 0 if width else -t.shape[-1] % 8))[:, None] for t in (q, core.key(y), core.value(y))]
        with sdpa_kernel(backend):
            read = F.scaled_dot_product_attention(*parts, scale=q.shape[-1] ** -0.5)[:, 0]
        return layer.output(F.pad(read, (0, q.shape[-1] - width)) if width else read[..., : q.shape[-1]]) + x

    return {
        "ours": lambda: block.attention(block.norm_x(x), block._normed(segments)) + x,
        "transformers": lambda: layer(x, None, tokens, None)[0],
        "efficient": lambda: fused(SDPBackend.EFFICIENT_ATTENTION),
        "flash-256": lambda: fused(SDPBackend.FLASH_ATTENTION, 256),
    }, [x, *block.attention.parameters(), *layer.parameters()]


def one_pass(run: Callable[[], Tensor], learns: list[Tensor], step: bool) -> Tensor:
    """A forward pass, and in a step the backward pass of its sum of squares."""
    if not step:
        with torch.no_grad():
            return run()
    for leaf in learns:
        leaf.grad = None
    out = run()
    out.float().square().sum().backward()
    return out.detach()


def measured(work: Callable[[], Tensor]) -> tuple[float, int, Tensor]:
    """Median seconds, the most bytes above those before, and what comes out."""
    out = work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return Timer("work()", globals={"work": work}).blocked_autorange(min_run_time=0.2).median, peak, out


def compared(name: str, rows: int, step: bool) -> list[dict[str, Any]]:
    """The lines of one layer."""
    subjects, learns = layers(name, rows)
    ours = measured(partial(one_pass, subjects["ours"], learns, step))
    lines = []
    for peer in ("tiles", "transformers", "transformers-bf16", "efficient", "efficient-bf16", "flash-256-bf16"):
        kind = peer.removesuffix("-bf16")
        run = subjects["ours" if kind == "tiles" else kind]
        row = f"{name}-{rows}-{'step' if step else 'forward'}"
        chosen = operator.path
        try:
            if kind == "tiles":
                operator.path = lambda x: tiles
            with PRECISIONS["-bf16" if peer.endswith("-bf16") else ""]():
                found = line(row, peer, ours, measured(partial(one_pass, run, learns, step)))
            lines.append(found | {"error": None} if kind == "flash-256" else found)
        except RuntimeError as refused:  # too large a head, or too little memory
            nothing = dict.fromkeys(("peer_s", "ratio", "error", "peer_bytes"))
            lines.append({"row": row, "peer": peer, "ours_s": ours[0], "ours_bytes": ours[1], **nothing, "why": str(refused).splitlines()[0][:120]})
            torch.cuda.empty_cache()
        finally:
            operator.path = chosen
    return lines


def graphed(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same, recorded once and replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = work()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def line(row: str, peer: str, ours: tuple[float, int, Tensor], theirs: tuple[float, int, Tensor]) -> dict[str, Any]:
    """What was measured of both sides."""
    error = float((theirs[2].float() - ours[2].float()).norm() / theirs[2].float().norm())
    sides = {"peer_s": theirs[0], "ours_s": ours[0], "ratio": theirs[0] / ours[0], "error": error, "peer_bytes": theirs[1], "ours_bytes": ours[1]}
    return {"row": row, "peer": peer, **sides}


def replayed(name: str, rows: int) -> list[dict[str, Any]]:
    """One layer forward, as graphs."""
    subjects, learns = layers(name, rows)
    ours = measured(graphed(partial(one_pass, subjects["ours"], learns, False)))
    lines = []
    for precision, context in PRECISIONS.items():
        with context():
            theirs = measured(graphed(partial(one_pass, subjects["transformers"], learns, False)))
        lines.append(line(f"{name}-{rows}-graph", f"transformers{precision}", ours, theirs))
    return lines


def models(rows: int, step: bool) -> list[dict[str, Any]]:
    """The whole ImageNet model."""
    theirs, model = (module.cuda() for module in published("vision-perceiver-fourier"))
    images = picture()["image"].cuda().repeat(rows, 1, 1, 1)
    subjects = {"ours": lambda: model({"image": images}), "transformers": lambda: theirs(inputs=images).logits}
    learns = [*theirs.parameters(), *model.parameters()]
    lines = []
    for precision, context in PRECISIONS.items():
        with context():
            ours, other = (measured(partial(one_pass, subject, learns, step)) for subject in subjects.values())
        lines.append(line(f"model-{rows}-{'step' if step else 'forward'}", f"transformers{precision}", ours, other))
    return lines


def roofline(n: int, rows: int, cols: int, channels: int, batch: int, clock: float) -> list[dict[str, Any]]:
    """The sums over a grid alone, forward and backward, beside the least that exponentials and other instructions could take.

    A multiprocessor does 16 exponentials and 128 additions or multiplications a clock. Of the latter there are 2 c + 8 for a query and a token
    forward, 3 c + 9 backward to queries, and 4 c + 9 backward to tokens; matrix units do those that have c, where channels are many.
    """
    properties = torch.cuda.get_device_properties(0)
    a, row, col = (torch.randn(batch, n, size, device="cuda") for size in (channels, rows, cols))
    x, inv = torch.randn(batch, channels, rows * cols, device="cuda"), torch.rand(batch, rows * cols, device="cuda") + 0.5
    path = operator.path(x)
    lse, *sums = path.forward(a, row, col, x, inv, None)
    delta = torch.zeros_like(lse)
    c = channels if channels <= 4 else 0
    lines = []
    for what, work, exponentials, others in (
        ("forward", lambda: path.forward(a, row, col, x, inv, None), 1, 2 * c + 8),
        ("backward", lambda: path.backward((a, row, col, x, inv, None), lse, delta, tuple(sums), True, True), 2, 7 * c + 18),
    ):
        pairs = batch * n * rows * cols
        by_rate = [pairs * count / (properties.multi_processor_count * rate * clock) for count, rate in ((exponentials, 16), (others, 128))]
        seconds = Timer("work()", globals={"work": work}).blocked_autorange(min_run_time=0.2).median
        name = f"{what} {batch} x {n} x {rows} x {cols} x {channels}"
        lines.append({"sums": name, "s": seconds, "exponentials_s": by_rate[0], "others_s": by_rate[1]})
    return lines


def shown(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, printed: milliseconds and MB."""
    for one in lines:
        numbers = [f"{one['row']:24}{one['peer']:20}"]
        for key, factor in (("ours_s", 1e3), ("peer_s", 1e3), ("ratio", 1), ("error", 1), ("ours_bytes", 2**-20), ("peer_bytes", 2**-20)):
            numbers.append("         -" if one[key] is None else f"{one[key] * factor:10.3g}")
        print(*numbers, one.get("why", ""), flush=True)
    torch.cuda.empty_cache()
    return lines


def page(text: str) -> str:
    """The page on performance with the tables in their place."""
    recorded = json.loads(RECORDED.read_text())
    return filled(text, START, STOP, tables(recorded["lines"], recorded["made"]))


def tables(results: list[dict[str, Any]], made: str) -> str:
    """The lines as the page shows them."""

    def cell(value: float | None, form: str) -> str:
        return "" if value is None else f"{value:{form}}"

    lines = [
        f"Made by `python benchmarks/gpu.py` on {made}. Milliseconds, and MB above what was there before.",
        "",
        "| row | peer | ours, ms | peer, ms | ratio | distance of outputs | ours, MB | peer, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        if "row" in one:
            memory = (None if one[key] is None else one[key] / 2**20 or None for key in ("ours_bytes", "peer_bytes"))
            times = (None if one[key] is None else 1000 * one[key] for key in ("ours_s", "peer_s"))
            cells = [one["row"], one["peer"], *(cell(t, ",.2f") for t in times), cell(one["ratio"], ".1f"), cell(one["error"], ".0e")]
            lines.append(f"| {' | '.join([*cells, *(cell(m, ',.0f') for m in memory)])} |")
    lines += ["", "| sums alone | ms | exponentials would take | other instructions would take |", "|---|---|---|---|"]
    for one in results:
        if "sums" in one:
            lines.append(f"| {one['sums']} | {1000 * one['s']:.3f} | {1000 * one['exponentials_s']:.3f} | {1000 * one['others_s']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--clock", type=float, default=1.98e9, help="of the processor, Hz, for the last lines")
    parser.add_argument("--record", metavar="WHERE", help="on what hardware, and when")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py needs a CUDA device, and PyTorch sees none; benchmarks/run.py measures on a CPU")
    print(torch.cuda.get_device_name(), torch.__version__)
    results: list[dict[str, Any]] = []
    for name in LAYERS:
        for rows in options.batches:
            for step in (False, True):
                results += shown(compared(name, rows, step))
        results += shown(replayed(name, 1))
    for step in (False, True):
        results += shown(models(options.batches[-1], step))
    for sizes in ((512, 224, 224, 3), (784, 896, 56, 48)):
        for batch in options.batches:
            results += roofline(*sizes, batch, options.clock)
            print(*results[-2:], sep="\n", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.record:
        RECORDED.write_text(json.dumps({"made": options.record, "lines": results}, indent=1) + "\n")
        PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
