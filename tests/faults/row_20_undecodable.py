"""Some samples cannot be decoded: pictures and sounds that are cut off, empty or something else, and a text that was changed while it is read."""

import json
import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tests.faults.processes import ROOT, losses
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_files import wav
from tests.faults.subjects.faulty_peers import trains_on_pictures

FAULT = "samples that cannot be decoded: pictures, sounds, texts"
EXPECTED = "named, counted, replaced the same way each time; stopped beyond a share of 1%"

SAID = re.compile(r"^(\S+?)/(?:train/)?(.+?) cannot be read and another row takes its place: .*? \(\d+ of \d+ rows so far\)", re.MULTILINE)
TRAINED, EVALUATED = 200, 7  # files of each modality
BROKEN = {"image": ("a/3.png", "b/50.png"), "audio": ("a/7.wav", "b/60.wav")}
TEXT = "1.txt"  # the one that is cut while it is in use


def ours(folder: Path) -> str:
    """A hundredth of the pictures and sounds is broken, and half of one of 100 texts: two trainings on all rows, and one that allows fewer."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(mixture(folder)))
    with Warm("faulty_ours") as act:
        for name in ("one", "two"):
            write_files(folder)
            if (done := act("fit", "-c", config, "--run_dir", folder / name)).returncode:
                raise Fell(f"exit code {done.returncode}: {done.said}")
        named = set(SAID.findall(done.text))
        wanted = {(name, file) for name, files in BROKEN.items() for file in files}
        if not wanted < named or not any(name == "text" and file.startswith(TEXT) for name, file in named):
            raise Fell(f"it named {sorted(named)} and not {sorted(wanted - named)}, and texts")
        if any(name != "text" for name, _ in named - wanted):
            raise Fell(f"it named what is right: {sorted(named - wanted)}")
        if not losses(folder / "one") or losses(folder / "one") != losses(folder / "two"):
            raise Fell("two runs replaced them by other samples: their losses differ")
        write_files(folder)
        done = act("fit", "-c", config, "--run_dir", folder / "three", "--data.init_args.bad_samples=0.005")
    if done.returncode != 2 or " of 200 rows of dataset " not in done.said or "more than bad_samples=0.005" not in done.said:
        raise Fell(f"beyond the share, exit code {done.returncode}: {done.said}")
    return f"{len(named)} named and replaced, the losses of two runs equal; and with bad_samples=0.005: {done.said}"


def write_files(folder: Path) -> None:
    """Pictures, sounds and texts by split and class; some of those for training are broken."""
    draw = np.random.default_rng(3)
    for split, number in (("train", TRAINED), ("val", EVALUATED), ("test", EVALUATED)):
        for index in range(number):
            label = "ab"[2 * index // number]
            for kind in ("image", "audio"):
                (folder / kind / split / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (6, 15, 3), dtype=np.uint8)).save(folder / "image" / split / label / f"{index % 100}.png")
            sound = wav(draw.integers(-9_000, 9_000, 50, dtype=np.int16).tobytes(), rate=50)
            (folder / "audio" / split / label / f"{index % 100}.wav").write_bytes(sound)
    (folder / "text").mkdir(exist_ok=True)
    for index in range(100):  # 18 bytes of each are for training, which are two windows, and one each for validation and test
        (folder / "text" / f"{index}.txt").write_bytes(bytes(draw.integers(97, 123, 20, dtype=np.uint8)))
    cut_off, no_picture = (folder / "image" / "train" / file for file in BROKEN["image"])
    cut_off.write_bytes(cut_off.read_bytes()[:200])
    no_picture.write_bytes(b"no picture")
    short, empty = (folder / "audio" / "train" / file for file in BROKEN["audio"])
    short.write_bytes(short.read_bytes()[:-20])
    empty.write_bytes(b"")


def mixture(folder: Path) -> dict:
    """The configuration of a training on these files: that of the toy mixture, on other datasets."""
    config = yaml.safe_load((ROOT / "tests" / "toy_mixture.yaml").read_text())
    config["trainer"] |= {
        "max_steps": 120,
        "callbacks": [{"class_path": "tests.faults.subjects.faulty_ours.CutFile", "init_args": {"file": str(folder / "text" / TEXT)}}],
    }
    config["save_every"] = 60
    mask = {"class_path": "perceiver.data.text.masking.WholeWords"}
    sources = {
        "image": {"class_path": "perceiver.data.ImageFolder", "init_args": {"root": str(folder / "image"), "size": [6, 15]}},
        "audio": {"class_path": "perceiver.data.AudioFolder", "init_args": {"root": str(folder / "audio"), "sample_rate": 50, "max_seconds": 1.3}},
        "text": {"class_path": "perceiver.data.TextFiles", "init_args": {"root": str(folder / "text"), "length": 17, "mask": mask}},
    }
    options = {"datasets": {name: {"source": source} for name, source in sources.items()}, "steps_per_epoch": 60, "batch_size": 6}
    config["data"]["init_args"] = options | {"num_workers": 0, "eval_batch_size": 13}
    config["model"]["init_args"]["model"]["init_args"]["adapters"]["image"]["init_args"]["channels"] = 3
    return json.loads(json.dumps(config))


def lightning(folder: Path) -> str:
    """One of 40 pictures is cut off; Pillow decodes them in a dataset of its user."""
    return trains_on_pictures("lightning", folder)


def transformers(folder: Path) -> str:
    """One of 40 pictures is cut off; Pillow decodes them in a dataset of its user."""
    return trains_on_pictures("transformers", folder)


def accelerate(folder: Path) -> str:
    """One of 40 pictures is cut off; Pillow decodes them in a dataset of its user."""
    return trains_on_pictures("accelerate", folder)
