"""One encoder and one latent array for any number of tasks, each with output queries and a head of its own.

Perceiver IO (Jaegle et al. 2021, section 3.2) asks one latent array for many kinds of output by what the queries are; here each
task brings its kind. Rows of a batch may belong to different tasks: all are encoded together, and each is asked
only what its own task asks.

Letters: b rows of the batch, r rows of one task, o output queries, k outputs of a head.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from perceiver.adapters import Adapter, Inputs, ModalityDropout
from perceiver.decoder import Decoder
from perceiver.description import Described
from perceiver.encoder import Encoder
from perceiver.models.model import Model
from perceiver.queries import of_rows


class Readout(Described):
    """What a task asks the latents with, and what it makes of the answer.

    Args:
        queries: one of `perceiver.queries`.
        head: from an answered query to outputs.
    """

    def __init__(self, queries: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.queries = queries
        self.head = head


class MultitaskPerceiver(Model):
    """Reads whatever modalities a row has into the latents, and answers the queries of the row's task from them.

    Args:
        adapters: by the name of the batch entry that each one takes.
        encoder: reads the tokens; its `context_dim` is the common width that they are projected to.
        decoder: lets the queries of all tasks read the latents.
        modality_dropout: hides whole modalities in training.
        readouts: what each task asks with, in the order of the numbers in a batch's `dataset`; `add_task` adds more.

    Raises:
        ValueError: when widths do not fit one another.
    """

    def __init__(
        self,
        adapters: dict[str, Adapter],
        encoder: Encoder,
        decoder: Decoder,
        *,
        modality_dropout: ModalityDropout | None = None,
        readouts: Mapping[str, Readout] | None = None,
    ) -> None:
        super().__init__()
        if decoder.latent_dim != encoder.dim:
            raise ValueError(f"the decoder reads latents of width {decoder.latent_dim} and the encoder makes {encoder.dim}: make them equal")
        self.inputs = Inputs(adapters, encoder.context_dim, modality_dropout=modality_dropout)
        self.encoder = encoder
        self.decoder = decoder
        self.readouts = nn.ModuleDict()
        for name, readout in (readouts or {}).items():
            self.add_task(name, readout.queries, readout.head)

    def add_task(self, name: str, queries: nn.Module, head: nn.Module) -> None:
        """Adds a task; the numbers in a batch's `dataset` follow the order in which tasks were added.

        Raises:
            ValueError: when the name is taken, or the queries have another width than the decoder takes.
        """
        if name in self.readouts:
            raise ValueError(f"the model has a task {name!r} already: choose another name")
        if queries.dim != self.decoder.query_dim:
            raise ValueError(f"the queries of {name!r} have width {queries.dim} and the decoder takes {self.decoder.query_dim}: make them equal")
        self.readouts[name] = Readout(queries, head)

    def forward(self, batch: Mapping[str, Tensor], tasks: Sequence[str] | None = None) -> dict[str, Float[Tensor, "r o k"]]:
        """Outputs of each task that has rows in the batch, for those rows in their order.

        Args:
            batch: raw entries by modality, with presence and lengths (see `perceiver.Inputs`), and `dataset` (b), the number of
                each row's task; without it all rows belong to the first.
            tasks: what those numbers mean; the model's own, in the order in which they were added, when not given.

        Raises:
            ValueError: when there is no task, one is not known, or the number of one is out of range.
        """
        names = list(self.readouts if tasks is None else tasks)
        if unknown := [name for name in names if name not in self.readouts]:
            raise ValueError(f"the model has no task {unknown[0]!r}, only {', '.join(self.readouts) or 'none'}: add it with add_task")
        if not self.readouts:
            raise ValueError("the model has no task to answer: add one with add_task")
        segments, size = self.inputs(batch)
        latents = self.encoder(segments, size)
        numbers = batch["dataset"].unique().tolist() if "dataset" in batch else [0]
        if not 0 <= min(numbers) <= max(numbers) < len(names):
            raise ValueError(f"dataset numbers {numbers} of a batch: this model has {len(names)} tasks, numbered from 0")
        outputs = {}
        for number in numbers:
            name = names[number]
            readout: Any = self.readouts[name]
            queries = readout.queries(segments, size)
            if numbers == [number]:
                outputs[name] = readout.head(self.decoder(queries, latents))
            else:
                rows = (batch["dataset"] == number).nonzero().flatten()
                outputs[name] = readout.head(self.decoder(of_rows(queries, rows), latents[rows]))
        return outputs
