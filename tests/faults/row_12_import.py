"""A checkpoint, or the configuration of a model, names a class or function by its import path."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from perceiver import checkpoints, from_pretrained
from tests.faults.processes import ROOT, fit_words, last
from tests.faults.scoreboard import Fell
from tests.faults.subjects import Warm
from tests.faults.subjects.faulty_runs import error_in

FAULT = "an import path in a checkpoint or in the configuration of a model"
EXPECTED = "only registered names are found, nothing is imported"
NOT_APPLICABLE = {"accelerate": "its checkpoints name no class"}

SHORT = ("--trainer.max_steps=4", "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1")
INTRUDER = """
import pathlib
from torch import nn
pathlib.Path({marker!r}).touch()
class Intruder(nn.Module):
    def __init__(self, *words, **options):
        super().__init__()
def make(*words, **options):
    return Intruder()
"""


FORMS = ("an instantiator", "a class", "the class of a part", "the same as a text", "an instantiator under a name of old")


def ours(folder: Path) -> str:
    """The folder of a model, and checkpoints: their description of the model, and the hyperparameters that Lightning keeps."""
    marker, path = intruder(folder)
    said = "nothing"
    with Warm("faulty_ours", PYTHONPATH=path) as act:
        words = fit_words(folder / "run", *SHORT)[1:]
        if (done := act(*words)).returncode:
            raise Fell(f"exit code {done.returncode}: {done.said}")
        content = checkpoints.read(last(folder / "run"))
        from_pretrained(last(folder / "run")).save_pretrained(folder / "model")
        config = json.loads((folder / "model" / "config.json").read_text())
        for number, model in enumerate(with_paths(config["model"])):
            (folder / "model" / "config.json").write_text(json.dumps(config | {"model": model}))
            said = refused(act("read", folder / "model", "from_pretrained").said, marker, f"config.json, {number}")
            torch.save(content | {"perceiver_model": model}, folder / "described.ckpt")
            refused(act("read", folder / "described.ckpt", "from_pretrained").said, marker, f"the description in a checkpoint, {number}")
        for number, entries in enumerate(with_hyperparameters(content["hyper_parameters"])):
            torch.save(content | entries, folder / "configured.ckpt")
            for command in ("fit", "test"):
                act(command, *words[1:], "--ckpt_path", folder / "configured.ckpt")
                absent(marker, f"the hyperparameters in a checkpoint, {number}, by {command}")
            act("read", folder / "configured.ckpt", "load_from_checkpoint")
            absent(marker, f"the hyperparameters in a checkpoint, {number}, by load_from_checkpoint")
    return said


def intruder(folder: Path) -> tuple[Path, str]:
    """A module that leaves a mark when it is imported: that mark, and the path on which modules are found, that one among them."""
    marker = folder / "imported"
    (folder / "modules").mkdir()
    (folder / "modules" / "intruder.py").write_text(INTRUDER.format(marker=str(marker)))
    return marker, f"{folder / 'modules'}:{ROOT / 'tests'}:{ROOT}"


def with_paths(model: dict[str, Any]) -> Iterator[Any]:
    """Descriptions of a model that name what is not registered: in the place of the whole, of a part, and as a function."""
    yield {"class": "intruder.Intruder", "args": {}}
    yield {"class": "os.system", "args": {"command": "true"}}
    for special in ({"class": "intruder.Intruder", "args": {}}, {"name": "intruder.make"}, {"partial": "intruder.make", "args": {}}):
        yield model | {"args": model["args"] | {"encoder": special}}


def with_hyperparameters(right: dict[str, Any]) -> Iterator[dict[str, dict[str, Any]]]:
    """Entries of a checkpoint whose hyperparameters name what is to be imported; `FORMS` says how."""
    by_lightning = "lightning.pytorch.cli.instantiate_module"
    yield {"hyper_parameters": right | {"_instantiator": "intruder.make"}}
    yield {"hyper_parameters": right | {"_instantiator": by_lightning, "_class_path": "intruder.Intruder"}}
    for model in ({"class_path": "intruder.Intruder"}, "class_path: intruder.Intruder"):
        yield {"hyper_parameters": right | {"_instantiator": by_lightning, "model": model}}
    yield {"hyper_parameters": {}, "hparams": right | {"_instantiator": "intruder.make"}}


def refused(line: str, marker: Path, what: str) -> str:
    """What a reader said when it refused a file."""
    absent(marker, what)
    told: str = json.loads(line)["from_pretrained"]["said"]
    if not told:
        raise Fell(f"{what} was taken for good")
    return told


def absent(marker: Path, what: str) -> None:
    """Makes sure that the module was not imported."""
    if marker.exists():
        raise Fell(f"a module that is named by {what} was imported")


def lightning(folder: Path) -> str:
    """`load_from_checkpoint` of a checkpoint as its command line writes them."""
    marker, path = intruder(folder)
    taken, said = [], "nothing"
    with Warm("faulty_lightning", PYTHONPATH=path) as act:
        if (done := act("train", folder / "run")).returncode:
            raise Fell(f"exit code {done.returncode}: {done.said}")
        content = torch.load(folder / "run" / "toy.ckpt")
        for form, entries in zip(FORMS, with_hyperparameters({"_class_path": "tests.faults.subjects.faulty_lightning.Toy"}), strict=True):
            entries = {name: {key.replace("model", "network"): value for key, value in given.items()} for name, given in entries.items()}
            torch.save(content | entries, folder / "toy.ckpt")
            done = act("load", folder / "toy.ckpt")
            if marker.exists():
                taken.append(form)
                marker.unlink()
            elif done.returncode:
                said = error_in(done.text)
    if taken:
        raise Fell(f"{' and '.join(taken)} that the hyperparameters of a checkpoint name was imported, and otherwise: {said}")
    return said


def transformers(folder: Path) -> str:
    """`AutoModel.from_pretrained` of a folder whose configuration names classes of a module that lies there."""
    marker, path = intruder(folder)
    model = folder / "model"
    model.mkdir()
    (model / "intruder.py").write_text(INTRUDER.format(marker=str(marker)))
    classes = {"AutoConfig": "intruder.Intruder", "AutoModel": "intruder.Intruder"}
    (model / "config.json").write_text(json.dumps({"model_type": "intruder", "auto_map": classes}))
    with Warm("faulty_transformers", PYTHONPATH=path, HF_MODULES_CACHE=str(folder / "cache")) as act:
        done = act("load", model)
    absent(marker, "the configuration of a model")
    if not done.returncode:
        raise Fell(f"it was taken for good: {done.said}")
    return error_in(done.text)
