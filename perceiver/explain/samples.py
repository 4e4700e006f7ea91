"""Samples: single rows of a batch with what the model saw, where it looked, and what it answered, as plain data for a page.

Letters: b rows, n latents, c y x channels, rows and columns of a picture, s samples of a sound, l bytes.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import soundfile
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from perceiver.adapters import AudioPatches, ImagePatches, LogMel, TextBytes
from perceiver.explain.ablation import removable, without
from perceiver.soft_weights import AttentionMap, record_attention
from perceiver.tokenizer import decode
from perceiver.tokens import Tokens

Batch = Mapping[str, Tensor]
Plain = dict[str, Any]


def head(batch: Batch, modalities: Sequence[str], rows: int) -> dict[str, Tensor]:
    """The first rows of a batch, whose entries may hold only the rows that have them."""
    first = {}
    names = [*modalities, *(key.removesuffix("_present") for key in batch if key.endswith("_present"))]
    for key, value in batch.items():
        name = next((m for m in names if key in (m, f"{m}_length", f"{m}_mask")), None)
        present = batch.get(f"{name}_present")
        compact = present is not None and len(value) != len(present)
        first[key] = value[: int(present[:rows].sum())] if compact and present is not None else value[:rows]
    return first


def view_of(adapter: nn.Module) -> str:
    """How a page shows the input of an adapter: as a picture, a sound, a text, or plain tokens."""
    for kind, view in ((ImagePatches, "picture"), ((AudioPatches, LogMel), "sound"), (TextBytes, "text")):
        if isinstance(adapter, kind):
            return view
    return "tokens"


def picture(adapter: ImagePatches, image: Float[Tensor, "c y x"] | UInt8[Tensor, "c y x"]) -> Plain:
    """Pixels in [0, 1], or bytes, grey or red-green-blue, rounded to three digits."""
    image = image / 255 if image.dtype == torch.uint8 else image
    pixels = image.clamp(0, 1).permute(1, 2, 0)[..., :3]
    grey = pixels.shape[-1] < 3
    return {"rows": pixels.shape[0], "columns": pixels.shape[1], "pixels": rounded(pixels.mean(-1) if grey else pixels)}


def sound(adapter: AudioPatches | LogMel, wave: Float[Tensor, "c s"]) -> Plain:
    """The spectrogram between 0 and 1, low to high, frame by frame, and the sound itself as a playable WAV."""
    if isinstance(adapter, LogMel):
        frames = adapter.spectrogram(wave[None])[0]
    else:
        window = torch.hann_window(256, device=wave.device)
        frames = torch.stft(wave.mean(0), 256, hop_length=80, window=window, pad_mode="constant", return_complex=True).abs().clamp_min(1e-4).log().T
    file = io.BytesIO()
    soundfile.write(file, wave.T.cpu().numpy(), adapter.sample_rate, format="WAV", subtype="PCM_16")
    return {
        "seconds": wave.shape[-1] / adapter.sample_rate,
        "spectrogram": rounded((frames - frames.min()) / (frames.max() - frames.min()).clamp_min(1e-6)),
        "wav": "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode(),
    }


def text(adapter: TextBytes, ids: Tensor) -> Plain:
    """One printable string a byte."""
    bytes_of = [decode([int(i)]) for i in ids]
    return {
        "characters": [b.decode("ascii") if b.isascii() and b.decode("ascii").isprintable() else "".join(f"\\x{x:02x}" for x in b) for b in bytes_of]
    }


VIEWS: dict[str, Callable[..., Plain]] = {"picture": picture, "sound": sound, "text": text, "tokens": lambda adapter, entry: {}}


def rounded(values: Tensor) -> Any:
    """Nested lists of numbers with four digits, which keep a page small."""
    return [rounded(v) for v in values] if values.ndim else round(float(values), 4)


def samples(
    task: Any,
    adapters: nn.ModuleDict,
    batch: Batch,
    tokens: Mapping[str, Tokens],
    *,
    layers: tuple[str, ...],
    datasets: Sequence[str],
    classes: Mapping[str, Sequence[str]],
) -> list[Plain]:
    """One entry for each row of a dataset that has classes, as `perceiver.explain.page` describes it.

    Args:
        task: gives the `probabilities` of a batch's rows.
        adapters: of the model, by modality.
        batch: the rows to show.
        tokens: of that batch, by modality.
        layers: beginnings of the names of the attention layers to show.
        datasets: names of the datasets that rows come from.
        classes: names of each dataset's classes.
    """
    with record_attention(task, layers) as maps:
        full = task.probabilities(batch)
    ablated = {name: task.probabilities(without(batch, name)) for name in removable(batch, tokens)}
    size = len(full)
    masks = {name: t.attendable(size) for name, t in tokens.items()}
    lengths = {name: batch.get(f"{name}_length") for name in tokens}
    entries = []
    for row in range(size):
        dataset = datasets[int(batch["dataset"][row]) if "dataset" in batch else 0]
        labels = classes.get(dataset, ())
        if not labels:
            continue
        best = full[row].topk(min(3, len(labels)))
        here = [name for name in tokens if masks[name][row].any()]
        place = {name: place_of(tokens[name], row, len(batch[name]) == size) for name in here}
        entry: Plain = {
            "dataset": dataset,
            "expected": labels[int(batch["target"][row])],
            "answer": labels[int(best.indices[0])],
            "probability": round(float(best.values[0]), 4),
            "top": [[labels[int(i)], round(float(p), 4)] for p, i in zip(best.values, best.indices, strict=True)],
            "without": {
                name: {"answer": labels[int(p[row].argmax())], "probability": round(float(p[row].max()), 4)}
                for name, p in ablated.items()
                if name in here
            },
            "inputs": {},
            "attention": {},
            "mass": {},
        }
        for name in here:
            length = lengths[name]
            raw = batch[name][place[name]]
            raw = raw if length is None else raw[..., : int(length[place[name]])]
            entry["inputs"][name] = VIEWS[view_of(adapters[name])](adapters[name], raw)
        for recorded in maps:
            layer = layer_label(recorded.layer)
            read = [name for name in here if name in recorded.mass]
            entry["attention"][layer] = {name: grid(recorded, name, row, masks[name][row]) for name in read}
            entry["mass"][layer] = {name: round(float(recorded.mass[name][row].mean()), 4) for name in read}
        entries.append(entry)
    return entries


def layer_label(name: str) -> str:
    """How tables and pages call an attention layer of a task."""
    return name.removeprefix("model.").removesuffix(".attention")


def place_of(tokens: Tokens, row: int, whole: bool) -> int:
    """Where a row's raw entry is: at the row, in a whole batch; else at its place among the rows that have the modality."""
    return row if whole or tokens.rows is None else int(torch.searchsorted(tokens.rows, row))


def grid(recorded: AttentionMap, name: str, row: int, mask: Tensor) -> Any:
    """A row's map of one modality, mean over the latents, without what lies behind the mask at the end of the first axis."""
    weights = recorded.weights[name][row].mean(0)
    valid = mask.view(weights.shape).flatten(1).any(1) if weights.ndim > 1 else mask
    return rounded(weights[: int(valid.nonzero().max()) + 1])
