"""Models on the Hugging Face hub: their files, fetched into its cache."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from perceiver.model_folder import CONFIG, PICKLED, WEIGHTS


def fetch(name_or_folder: str | Path, **options: Any) -> Path:
    """The folder of a model: the one that is named, or one that the hub's files were fetched into.

    Args:
        name_or_folder: a folder, or a name on the hub such as `deepmind/language-perceiver`. URLs are not taken.
        options: of `huggingface_hub.hf_hub_download`: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

    Raises:
        ValueError: when there is no such folder, and no such model on the hub, or the hub cannot be reached.
    """
    if (folder := Path(name_or_folder)).is_dir():
        return folder
    name = str(name_or_folder)
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or "://" in name or isinstance(name_or_folder, Path):
        raise ValueError(f"there is no folder {name}: give the folder of a model, or a name on the hub such as deepmind/language-perceiver")
    try:
        config = hf_hub_download(name, CONFIG, **options)
        try:
            hf_hub_download(name, WEIGHTS, **options)
        except EntryNotFoundError:
            hf_hub_download(name, PICKLED, **options)
    except (OSError, HFValidationError) as error:  # all errors of the hub, and of the network, are OSErrors
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"there is no folder {name}, and no model {name} could be fetched from the hub: {why}") from error
    return Path(config).parent
