"""Payloads of report pages, made for the tests: sizes that no two axes share, and words that want to be markup."""

import base64
import io
import random
import wave
from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

HOSTILE = "a</script><b>7"
LAYERS = ["encoder.cross.0", "encoder.cross.1"]
KINDS = ["written", "spoken", "same"]
NAMES = ["image", "audio", "text"]
HEADS = 3
ABSENT = 3  # the sample without a picture
FIRST, SECOND = ('#layers [data-layer="encoder.cross.0"]', '#layers [data-layer="encoder.cross.1"]')
REQUIRED = {"title", "subtitle", "modalities", "layers", "datasets", "accuracy", "samples", "remarks"}


def packed(values: Iterable[int]) -> str:
    return base64.b64encode(bytes(values)).decode()


def silence(samples: int = 4_001) -> str:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(2 * samples))
    return f"data:audio/wav;base64,{packed(file.getvalue())}"


def measure(name: str, value: float | None, **changes: Any) -> dict[str, Any]:
    plain = {"n": 4_000, "interval": None, "reference": {}, "verdict": "ok", "reason": "It is enough.", "seconds": 2.5, "passes": 8}
    return {"name": name, "value": value, "of": {}} | plain | changes


def make_diagnoses() -> list[dict[str, Any]]:
    """One of each verdict; a group of measures that share all but the value, one that shares nothing, one that is long, one that is none."""
    shared = [measure("entropy", 0.25 * k, of={"layer": LAYERS[0], "head": k}, reference={"uniform": 1.0}) for k in (1, 2, 3)]
    own = [
        measure("comprehensiveness", 0.31, n=255, interval=[0.28, 0.34], reference={"random": 0.03}, reason="Above random.", passes=12),
        measure(
            "comprehensiveness", -0.125, n=256, interval=[-0.2, 0.01], reference={"random": 0.04}, verdict="warning", reason="Not above.", seconds=3.5
        ),
    ]
    lift = [measure("lift", 1 + k / 8, of={"dataset": kind, "modality": name}) for k, (kind, name) in enumerate(product(KINDS, NAMES))]
    none = [measure("completeness", None, n=0, verdict="not applicable", reason="Bytes have no line between them.", seconds=0, passes=0)]
    kinds = [("focus", "Narrow focus", "ok", shared + lift), ("faithfulness", "Lack of comprehensiveness", "warning", own + none)]
    kinds += [("cost", "Cost", "not applicable", [])]
    return [
        {"key": key, "title": title, "verdict": verdict, "sentence": f"A sentence on {key}.", "measures": measures}
        for key, title, verdict, measures in kinds
    ]


def make_tables() -> list[dict[str, Any]]:
    """Two tables of costs, one of which is as wide as those of a model get."""
    wide = ["", "parameters", "runs", "FLOPs", "%", "in parts", "% ", "training", "keys, values %", "soft weights, bytes", "kept, bytes"]
    return [
        {"title": "Parts", "columns": ["part", "seconds"], "rows": [["Shapley values", "34.1"], ["shuffles", "5.9"]]},
        {"title": "Modalities", "columns": wide, "rows": [["latents, queries, heads", *["123 k"] * 10], ["image", *["4.56 M"] * 10]]},
    ]


def make_payload() -> dict[str, Any]:
    """Seven samples over three kinds of question, with sizes that no two axes share."""
    draw = random.Random(5)

    def grid(rows: int, columns: int, low: float = 0.0) -> list[list[float]]:
        return [[round(draw.uniform(low, 1), 4) for _ in range(columns)] for _ in range(rows)]

    def scores() -> dict[str, float]:
        return {kind: round(draw.random(), 3) for kind in KINDS}

    def line(count: int, low: float = 0.0) -> list[float]:
        return [round(draw.uniform(low, 1), 4) for _ in range(count)]

    samples = []
    for k in range(7):
        characters = list(HOSTILE if k == 1 else "which digit?")
        inputs = {
            "image": {"rows": 11, "columns": 7, "channels": 1, "bytes": packed(draw.randbytes(11 * 7))},
            "audio": {"seconds": 0.5, "rows": 17, "columns": 13, "bytes": packed(draw.randbytes(17 * 13)), "wav": silence()},
            "text": {"characters": characters},
        }
        here = [name for name in NAMES if k != ABSENT or name != "image"]
        maps = [{"image": grid(3, 2), "audio": grid(5, 1), "text": line(len(characters))} for _ in range(HEADS * len(LAYERS))]
        attention = {layer: {name: [each[name] for each in maps[HEADS * i : HEADS * (i + 1)]] for name in here} for i, layer in enumerate(LAYERS)}
        explained = {"image": grid(3, 2, -1), "audio": grid(5, 1, -1), "text": line(len(characters), -1)}
        gone = [set_of for size in range(1, len(here)) for set_of in combinations(here, size)]
        samples.append(
            {
                "dataset": KINDS[k % 3],
                "expected": f"answer {k}",
                "answer": f"answer {k}" if k != 2 else "mistake",
                "probability": 0.9,
                "top": [[f"answer {k}", 0.9], ["other", 0.1]],
                "without": {"+".join(names): {"answer": f"no {'+'.join(names)} {k}", "probability": 0.25} for names in gone},
                "inputs": {name: inputs[name] for name in here},
                "attention": attention,
                "mass": {layer: {"image": 0.2, "audio": 0.3, "text": 0.4, "registers": 0.1} for layer in LAYERS},
                "explanations": {"gradient": {name: explained[name] for name in here}},
            }
        )
    worth = {kind: {name: {"value": round(draw.uniform(-0.1, 0.6), 3)} for name in NAMES} for kind in KINDS}
    for each in (cell for row in worth.values() for cell in row.values()):
        each["interval"] = [round(each["value"] - 0.03, 3), round(each["value"] + 0.02, 3)]
    return {
        "title": "A <b>title</b>",
        "subtitle": "one line \u00e9",
        "modalities": [{"name": "image", "view": "picture"}, {"name": "audio", "view": "sound"}, {"name": "text", "view": "text"}],
        "layers": LAYERS,
        "datasets": KINDS,
        "accuracy": scores(),
        "accuracy_without": {name: scores() for name in NAMES},
        "mass": {name: scores() for name in NAMES},
        "token_share": {"image": dict.fromkeys(KINDS, 0.2), "audio": dict.fromkeys(KINDS, 0.3), "text": dict.fromkeys(KINDS, 0.5)},
        "baselines": {"mean_pool": scores()},
        "remarks": ["They agree </script><b>."],
        "samples": samples,
        "asked": "Which digit is it?",
        "belief": {"verdict": "warning", "sentence": "Believe which modality was read, not which pixel."},
        "worth": worth,
        "diagnoses": make_diagnoses(),
        "explanations": [
            {"name": "gradient", "label": "Gradient", "shown": True, "sentence": "Better than random order."},
            {"name": "rollout", "label": "Rollout", "shown": False, "sentence": "No better than random order: 0.04 against 0.03."},
        ],
        "ladder": {"sentence": "All had one budget.", "rows": [{"name": "majority", "parameters": 0, "accuracy": scores()}]},
        "cost": {"sentence": "It took a minute.", "tables": make_tables()},
    }


PAYLOAD = make_payload()
SHORT = {key: PAYLOAD[key] for key in REQUIRED | {"accuracy_without", "mass", "token_share", "baselines"}}


def tokens_only(labels: dict[str, list[str]]) -> dict[str, Any]:
    """A payload of another modality: tokens only, nothing to take away, no remark, no baseline."""
    modality = {"name": "points", "view": "tokens"}
    sample = {
        "dataset": "near",
        "expected": "yes",
        "answer": "yes",
        "probability": 0.75,
        "top": [["yes", 0.75]],
        "without": {},
        "inputs": {"points": labels},
        "attention": {"cross": {"points": [[0.5, 0.3, 0.2]]}},
        "mass": {"cross": {"points": 1.0}},
    }
    return {
        "title": "Points",
        "subtitle": "",
        "modalities": [modality],
        "layers": ["cross"],
        "datasets": ["near"],
        "accuracy": {"near": 0.75},
        "accuracy_without": {"points": {"near": 0.5}},
        "samples": [sample],
        "remarks": [],
    }


def clip(text: str = "rain") -> dict[str, Any]:
    """A payload with the other views: five frames of which two grids tell, a waveform of seven stretches, and a text."""
    draw = random.Random(3)
    frames = {"frames": 5, "rows": 3, "columns": 2, "channels": 3, "bytes": packed(draw.randbytes(5 * 3 * 2 * 3))}
    stretches = {"seconds": 0.5, "low": [-k / 7 for k in range(7)], "high": [k / 7 for k in range(7)], "wav": silence()}
    weights = {"film": [[[0.1], [0.2], [0.4]], [[0.1], [0.1], [0.3]]], "noise": [0.5, 0.1, 0.2], "words": [draw.random() for _ in text]}
    sample = tokens_only({})["samples"][0] | {
        "inputs": {"film": frames, "noise": stretches, "words": {"characters": list(text)}},
        "attention": {"cross": {name: [each] for name, each in weights.items()}},
        "mass": {"cross": {"film": 0.5, "noise": 0.3, "words": 0.2}},
    }
    views = {"film": "video", "noise": "wave", "words": "text"}
    modalities = [{"name": name, "view": view} for name, view in views.items()]
    return tokens_only({}) | {"modalities": modalities, "accuracy_without": {}, "samples": [sample]}
