"""Discovery: which layers a pass through a model runs, and which arrays they meet.

Layers say it through forward hooks, tokens by themselves when they are projected. Closed forms are evaluated after the pass, so that nothing of
theirs is counted in it. What a layer meets again in the backward pass, where blocks are recomputed, belongs to that.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from perceiver.adapters import Inputs
from perceiver.attention import Attention
from perceiver.cost.grid import learns, map_work
from perceiver.cost.layers import Maps, Read, Term, convolution, fused_maps, projection
from perceiver.cost.watch import Projecting, watched
from perceiver.cost.work import Work, product
from perceiver.linear import is_plain
from perceiver.models.autoencoder import Autoencoder
from perceiver.models.masked_bytes import TiedScores
from perceiver.tokens import Tokens

OF_MODALITY = re.compile(r"(?:^|\.)inputs\.(?:adapters|projections)\.([^.]+)(?:\.|$)")
Ready = Callable[[Tokens], Tokens]


class Discovery:
    """What a pass has met so far.

    Args:
        model: that the pass goes through.
    """

    def __init__(self, model: nn.Module) -> None:
        self.again = False  # whether this is the backward pass
        self.modalities = list(dict.fromkeys(name for m in model.modules() if isinstance(m, Inputs) for name in m.adapters))
        self.tokens: dict[str, int] = {}  # of a row, by modality
        self.widths: dict[str, int] = {}
        self._found: list[tuple[bool, Callable[[], list[Term]]]] = []
        self._reads: list[Read] = []
        self._maps: dict[str, Maps] = {}  # of attention layers that are running

    @property
    def terms(self) -> list[Term]:
        """All that was computed; what was computed again counts as backward."""
        found = []
        for again, terms in self._found:
            found += [replace(t, work=Work(0, t.work.forward), attention_bytes=0) if again else t for t in terms()]
        return found

    @property
    def reads(self) -> list[Read]:
        """The calls of attention layers in the forward pass, in their order."""
        return list(self._reads)

    def add(self, module: str, modality: str | None, kind: str, work: Callable[[], Work]) -> None:
        """Notes what was computed just now."""
        self._found.append((self.again, lambda: [Term(module, modality, kind, work())]))

    def attend(self, read: Read) -> None:
        """Notes a call of an attention layer."""
        if not self.again:
            self._reads.append(read)
        self._found.append((self.again, lambda: read.terms(self._modality)))

    def _modality(self, segment: str) -> str | None:
        """A model without `Inputs` calls its modalities as it likes; one with them may have segments, such as registers, that are none."""
        return segment if segment in self.modalities or not self.modalities else None

    def hooks(self, name: str, module: nn.Module) -> list[Callable[..., None]]:
        """What a module says when it was called."""
        whose = found[1] if (found := OF_MODALITY.search(name)) else None

        def linear(m: Any, given: tuple[Any, ...], out: Tensor) -> None:
            x, rows = given[0], out.numel() // max(out.shape[-1], 1)
            self.add(name, whose, "linear map", lambda: map_work(m, rows, data=learns(x)))

        def conv(m: Any, given: tuple[Any, ...], out: Tensor) -> None:
            x = given[0]
            self.add(name, whose, "convolution", lambda: convolution(m, x, out))

        def mel_bands(m: Any, given: tuple[Any, ...], out: Tensor) -> None:
            frequencies, bands = m.fb.shape
            self.add(name, whose, "mel bands", lambda: product(out.numel() // bands, frequencies, bands, left=False, right=False))

        def scores(m: Any, given: tuple[Any, ...], out: Tensor) -> None:
            answers, table = given
            rows = out.numel() // len(table)
            self.add(name, whose, "linear map", lambda: product(rows, table.shape[1], len(table), left=learns(answers), right=learns(table)))

        audio = sys.modules.get("torchaudio.transforms")  # a model with mel bands has imported it
        kinds: list[tuple[Any, Callable[..., None]]] = [(nn.Linear, linear), (_ConvNd, conv), (TiedScores, scores)]
        kinds += [(audio.MelScale, mel_bands)] if audio else []
        return [say for kind, say in kinds if isinstance(module, kind)]


@contextmanager
def discovering(model: nn.Module, ready: Ready) -> Iterator[Discovery]:
    """Notes what passes through a model compute.

    Args:
        model: is as it was afterwards.
        ready: what is made of the tokens of each modality, and of queries that are tokens, before they go on: `as_they_are`, or `joined`.
    """
    found, handles = Discovery(model), []
    modules = dict(model.named_modules())
    attentions = tuple(f"{name}." for name, module in modules.items() if isinstance(module, Attention))
    inputs = tuple(f"{name}." for name, module in modules.items() if isinstance(module, Inputs))
    for name, module in modules.items():
        if isinstance(module, Attention):
            handles += _watch_attention(found, name, module)
        elif name.startswith(attentions):
            continue
        elif isinstance(module, Inputs):
            handles.append(module.register_forward_hook(_watch_inputs(found, name, ready)))
        elif not name.startswith(inputs):
            handles.append(module.register_forward_hook(lambda module, given, out: ready(out) if isinstance(out, Tokens) else None))
        if isinstance(module, Autoencoder):
            handles += _watch_heads(found, name, module)
        handles += [module.register_forward_hook(hook) for hook in found.hooks(name, module)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def as_they_are(tokens: Tokens) -> Tokens:
    """Leaves tokens in parts: the pass as it runs."""
    return tokens


def joined(tokens: Tokens) -> Tokens:
    """Forms all tokens: the pass as it runs elsewhere, with each token's keys and values."""
    return tokens.dense()


def _watch_attention(found: Discovery, name: str, layer: Attention) -> list[Any]:
    def begin(module: nn.Module, given: tuple[Any, ...]) -> None:
        found._maps[name] = Maps()

    def mapped(which: str) -> Callable[..., None]:
        def say(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
            found._maps[name].calls[which].append((out.numel() // max(out.shape[-1], 1), learns(given[0]), learns(out)))

        return say

    def end(module: Attention, given: tuple[Any, ...], more: dict[str, Any], out: Tensor) -> None:
        rotate = more.get("rotate", given[3] if len(given) > 3 else None)
        found.attend(Read(name, module, given[0], given[1], rotate, found._maps.pop(name)))

    maps = [getattr(layer, which).register_forward_hook(mapped(which)) for which in Maps().calls]
    return [layer.register_forward_pre_hook(begin), *maps, layer.register_forward_hook(end, with_kwargs=True)]


def _watch_heads(found: Discovery, name: str, model: Autoencoder) -> list[Any]:
    """An autoencoder's heads are not called where they are narrow."""
    asking = [""]
    prefix = f"{name}." if name else ""

    def ask(key: str) -> Callable[..., None]:
        return lambda module, given: asking.__setitem__(0, key)

    def answer(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> None:
        first, second = model.answer, model.heads[asking[0]]
        if is_plain(first) and is_plain(second) and second.out_features < min(first.out_features, out.shape[1]):
            found.add(f"{prefix}heads.{asking[0]}", None, "linear map", lambda: fused_maps(out, first, second))

    return [*(q.register_forward_pre_hook(ask(key)) for key, q in model.queries.items()), model.decoder.register_forward_hook(answer)]


def _watch_inputs(found: Discovery, name: str, ready: Ready) -> Callable[..., Any]:
    prefix = f"{name}." if name else ""

    def projecting(key: str) -> Projecting:
        def note(tokens: Tokens, features: Tensor, project: nn.Linear) -> AbstractContextManager[object]:
            found.add(f"{prefix}projections.{key}", key, "projection", lambda: projection(tokens, features, project))
            return nullcontext()

        return note

    def watch(module: Inputs, given: tuple[Any, ...], out: tuple[dict[str, Tokens], int]) -> tuple[dict[str, Tokens], int]:
        segments, rows = out
        found.tokens |= {key: tokens.features.shape[1] for key, tokens in segments.items()}
        found.widths |= dict.fromkeys(segments, module.dim)
        return {key: ready(watched(tokens, projecting(key))) for key, tokens in segments.items()}, rows

    return watch
