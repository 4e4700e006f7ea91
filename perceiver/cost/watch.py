"""Watching tokens: they are projected by whoever asks for them, outside any module, and say so themselves."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

from torch import Tensor, nn

from perceiver.tokens import Tokens

Projecting = Callable[[Tokens, Tensor, nn.Linear], AbstractContextManager[object]]


def watched(tokens: Tokens, projecting: Projecting) -> Tokens:
    """The same tokens, of a class like theirs.

    Args:
        tokens: stay as they are.
        projecting: is around each projection to the common width; called with the tokens, their features and the map.
    """
    kind = type(tokens)

    def projected(self: Tokens, features: Tensor, project: nn.Linear) -> Tensor:
        with projecting(self, features, project):
            return kind._projected(self, features, project)

    twin = copy.copy(tokens)
    object.__setattr__(twin, "__class__", type(kind.__name__, (kind,), {"_projected": projected}))
    return twin
