"""What all models of the library can do: be saved with what they were built with, and be built again."""

from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from perceiver.adapters import Adapter, Inputs
from perceiver.description import Described
from perceiver.hub import fetch
from perceiver.model_folder import load_model, save_model

M = TypeVar("M", bound="Model")

CARD = """---
{{ card_data }}
---

A `{{ kind }}` of [perceiver-lightning]: {{ reads }}. {{ parameters }} parameters.

```python
import perceiver

model = perceiver.from_pretrained("{{ repo_id | default("this/folder", true) }}")
```

`config.json` says what it is built with, `model.safetensors` holds its weights.
"""


class Model(Described, PyTorchModelHubMixin, library_name="perceiver-lightning", tags=["perceiver"], model_card_template=CARD):
    """A whole model. `save_pretrained(folder)` writes it with a model card, `push_to_hub(name)` puts that folder on the hub.

    Attributes:
        origin: where its weights came from, as plain data; it is saved with them.
    """

    origin: dict[str, Any] | None = None
    inputs: Inputs

    @property
    def adapters(self) -> nn.ModuleDict:
        """Adapters by modality."""
        return self.inputs.adapters

    def add_modality(self, name: str, adapter: Adapter) -> None:
        """Lets a trained model read one modality more. Rows without it give what they gave before, bit for bit.

        What is new is random: train it first, with the rest frozen (`perceiver.tasks.FineTuning`), and then all of the model, if at all.

        Args:
            name: of the batch entry.
            adapter: of the modality.

        Raises:
            ValueError: when the name is taken, or the model has no encoder, so that its shape depends on its modalities.
        """
        self._check_encoder()
        self.inputs.add(name, adapter)

    def remove_modality(self, name: str) -> None:
        """Takes a modality away. Rows without it give what they gave before, bit for bit.

        Raises:
            ValueError: when there is no such modality, or no other, or the model has no encoder.
        """
        self._check_encoder()
        self.inputs.remove(name)

    def _check_encoder(self) -> None:
        if not hasattr(self, "encoder"):
            raise ValueError(f"the shape of {type(self).__name__} depends on its modalities: build it with those that it shall have")

    @classmethod
    def from_pretrained(cls: type[M], name_or_folder: str | Path, **options: Any) -> M:  # type: ignore[override]
        """A model of this class that `save_pretrained` or `push_to_hub` wrote, in evaluation mode.

        `perceiver.from_pretrained` takes models of any class, and the published ones.

        Args:
            name_or_folder: a folder, or the name of a model on the hub.
            options: of the download: `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Raises:
            ValueError: when there is no such model, it cannot be read, or it is one of another class.
        """
        model = load_model(fetch(name_or_folder, **options))
        if not isinstance(model, cls):
            raise ValueError(f"{name_or_folder} holds a {type(model).__name__}, not a {cls.__name__}: use perceiver.from_pretrained")
        return model

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self, save_directory)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The model card: what the model reads, its size, and how it is loaded."""
        names = ", ".join(self.adapters) if hasattr(self, "inputs") else ""
        told = {
            "kind": type(self).__name__,
            "reads": f"reads {names}" if names else "several models",
            "parameters": f"{sum(p.numel() for p in self.parameters()):,}",
        }
        return super().generate_model_card(*args, **told, **kwargs)
