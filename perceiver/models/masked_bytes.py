"""The published language model: masked bytes with no tokenizer (Perceiver IO, section 4.1 and appendix F).

Letters: b batch, l places of the table, v ids.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from perceiver.adapters import Adapter, PlacedBytes, projection_if_needed
from perceiver.decoder import Decoder
from perceiver.description import Described
from perceiver.encoder import Encoder
from perceiver.initialization import Start, small_array
from perceiver.models.perceiver_io import PerceiverIO
from perceiver.queries import LearnedQueries
from perceiver.tokenizer import VOCAB_SIZE


class TiedScores(Described):
    """How well each id fits an answer: its product with the vector that the id has as an input, and a bias.

    Args:
        vocab_size: number of ids.
    """

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, answers: Float[Tensor, "b l d"], embedding: Float[Tensor, "v d"]) -> Float[Tensor, "b l v"]:
        """Scores before the softmax."""
        return F.linear(answers, embedding, self.bias)


class MaskedBytes(PerceiverIO):
    """Reads bytes, and says for each place which byte stands there. The output matrix is the input's embedding.

    Each place has a learned query, so that there are always `max_length` of them, whatever the length of the text.

    Args:
        encoder: its `context_dim` is the width of a byte's vector.
        decoder: its `query_dim` is that width, too.
        max_length: places of the position table, and queries.
        vocab_size: number of ids.
        adapter: the class of the adapter.
        others: adapters of other modalities, which are read beside the text.
        places: makes the tables of places, that of the inputs and that of the queries; see `perceiver.initialization`.

    Raises:
        ValueError: when widths do not fit one another.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        *,
        max_length: int = 2048,
        vocab_size: int = VOCAB_SIZE,
        adapter: type[PlacedBytes] = PlacedBytes,
        others: Mapping[str, Adapter] | None = None,
        places: Start = small_array,
    ) -> None:
        if decoder.query_dim != encoder.context_dim:
            raise ValueError(
                f"the decoder answers with width {decoder.query_dim}, and a byte's vector has {encoder.context_dim}: "
                "make them equal, since answers are compared with the vectors of bytes"
            )
        super().__init__(
            {"text": adapter(max_length, encoder.context_dim, vocab_size=vocab_size, places=places)} | dict(others or {}),
            encoder,
            LearnedQueries(max_length, decoder.query_dim, start=places),
            decoder,
            TiedScores(vocab_size),
            project=projection_if_needed,
        )

    @property
    def others(self) -> dict[str, Adapter]:
        """Adapters of all modalities but the text."""
        return {name: adapter for name, adapter in self.adapters.items() if name != "text"}  # type: ignore[misc]

    def forward(self, batch: Mapping[str, Tensor]) -> Float[Tensor, "b l v"]:
        """Scores of every id at every place.

        Args:
            batch: `text`, ids from `perceiver.tokenizer`, and `text_mask` or `text_length` where texts are padded.
        """
        adapter: Any = self.inputs.adapters["text"]
        return self.head(self.answers(batch), adapter.embedding.weight)
