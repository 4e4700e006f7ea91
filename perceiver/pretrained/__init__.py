"""Weights that exist: models of this library, and the published ones, from a folder or the hub.

A published model is told by its `config.json` (`"model_type": "perceiver"`).
"""

from pathlib import Path
from typing import Any

from perceiver.hub import fetch
from perceiver.model_folder import FORMAT, load_model, read_config
from perceiver.models.model import Model
from perceiver.pretrained.checkpoint import load_checkpoint, save_checkpoint
from perceiver.pretrained.init_from import InitFrom
from perceiver.pretrained.load_table import LoadTable
from perceiver.pretrained.published import load_published, save_published
from perceiver.pretrained.rebuild import rebuild

__all__ = ["InitFrom", "LoadTable", "from_pretrained", "load_published", "rebuild", "save_checkpoint", "save_published"]


def from_pretrained(name_or_folder: str | Path, semantics: str | None = None, **options: Any) -> Model:
    """A model with its weights, in evaluation mode.

    Args:
        name_or_folder: a folder that `save_pretrained` wrote, a folder in the format of transformers, the name of either on the hub,
            such as `deepmind/language-perceiver`, or a checkpoint (`.ckpt`) that a training wrote.
        semantics: whose numbers a published model follows where two differ: `hf` (transformers; taken when nothing is said) or
            `deepmind` (the original).
        options: of the download: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

    Raises:
        ValueError: when there is no such model, it is damaged or does not fit together, or it is one of this library's and was saved
            with other semantics. Nothing is loaded then.
    """
    is_checkpoint = Path(name_or_folder).suffix == ".ckpt"
    place = Path(name_or_folder) if is_checkpoint else fetch(name_or_folder, **options)
    if not is_checkpoint and read_config(place).get("format") != FORMAT:
        return load_published(place, semantics or "hf")
    from perceiver.adapters import LogMel  # noqa: F401  # a class that a description may name, and that is slow to import

    model = load_checkpoint(place) if is_checkpoint else load_model(place)
    if not isinstance(model, Model):
        raise ValueError(f"{place} describes a {type(model).__name__}, which is no model")
    saved = (model.origin or {}).get("semantics")
    if semantics is not None and semantics != saved:
        raise ValueError(f"{place} was saved with semantics {saved!r}, which cannot be changed to {semantics!r}: load the published weights anew")
    return model
