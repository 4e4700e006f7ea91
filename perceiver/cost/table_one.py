"""Table 1 of "Attention Is All You Need" (Vaswani et al. 2017), with the Perceiver's rows beside its own, and a transformer over all inputs."""

from collections.abc import Mapping, Sequence

from perceiver.cost import forms
from perceiver.cost.blocks import kind_of
from perceiver.cost.figures import Computed, Sizes, TableRow, Transformer
from perceiver.cost.layers import Read, Term
from perceiver.cost.work import Work, product

REACH = 3  # of the convolution
OVER_INPUTS = ("projection", "linear map", "convolution", "mel bands")


def table_one(sizes: Sizes, reads: Sequence[Read], forward: int, steps: int, hops: int) -> list[TableRow]:
    """The rows, with a model's sizes put in.

    The rows of the paper are layers over all inputs, as wide as the latents; the convolution reaches 3 tokens, restricted attention as many as there
    are latents.

    Args:
        sizes: of the model.
        reads: calls of its attention layers.
        forward: FLOPs of its forward pass for one row of a batch.
        steps: of its blocks, one after another.
        hops: from an input to an output.
    """
    n, d = sizes.inputs, sizes.latent_width or sizes.width
    r = sizes.latents or 1
    rows = [
        TableRow("self-attention", "n^2 d", "1", "1", forms.self_attention(n, d), 1, 1),
        TableRow("recurrent", "n d^2", "n", "n", forms.recurrent(n, d), n, n),
        TableRow(f"convolution, k = {REACH}", "k n d^2", "1", "log_k(n)", forms.convolution(n, d, REACH), 1, forms.layers_to_meet(n, REACH)),
        TableRow(f"restricted self-attention, r = {r}", "r n d", "1", "n / r", forms.restricted_self_attention(n, d, r), 1, -(-n // r)),
    ]
    for label, kind, work in (
        ("Perceiver, encode", "cross_attends", "M N d + M C d"),
        ("Perceiver, latent self-attention", "stacks", "N^2 D + N D^2"),
        ("Perceiver, decode", "decoder", "O N D"),
    ):
        if calls := [read for read in reads if kind_of(read.block) == kind]:
            rows.append(TableRow(label, work, "1", "1", _attention(calls[0], calls if kind == "decoder" else calls[:1]), 1, 1))
    whole = ("(M + O + L N) N D", "L", "2") if sizes.latents else ("", "", "")
    return [*rows, TableRow("the whole model", *whole, forward, steps, hops)]


def _attention(read: Read, calls: Sequence[Read]) -> int:
    """The closed form of a layer, all its calls together; queries may come in pieces."""
    layer, tokens = read.layer, [m for m in read.tokens.values() if m]
    dim, context_dim = int(layer.to_out.out_features), int(layer.to_v.in_features)
    qk, v = int(layer.to_k.out_features), int(layer.to_v.out_features)
    return sum(forms.attention(call.queries.shape[1], tokens, dim, context_dim, qk, v) for call in calls)


def over_all_inputs(sizes: Sizes, terms: Sequence[Term], reads: Sequence[Read], parameters: Mapping[str, int], forward: int) -> Transformer | None:
    """The transformer that has the model's latent layers over every token; None where there are no such layers, or several latent arrays.

    Where tokens have another width than latents, one more map comes before.

    Args:
        sizes: of the model.
        terms: of its dense pass.
        reads: calls of its attention layers.
        parameters: by block.
        forward: FLOPs of the model's forward pass.
    """
    m, n, d = sizes.inputs, sizes.latents, sizes.latent_width
    stacked = {read.block for read in reads if kind_of(read.block) == "stacks"}
    if not stacked or not n or any(block.startswith("models.") for block in stacked):
        return None
    found: list[Term] = []
    for term in terms:
        block = term.block
        if block in stacked:
            power = 2 if term.kind == "scores and sums" else 1
            found.append(_scaled(term, m**power, n**power))
        elif kind_of(block) in ("adapters", "heads") and term.kind in OVER_INPUTS:
            found.append(term)
    kept = sum(count for block, count in parameters.items() if block in stacked or kind_of(block) in ("adapters", "heads"))
    if sizes.width != d:
        found.append(Term("inputs", None, "projection", product(sizes.rows * m, sizes.width, d)))
        kept += (sizes.width + 1) * d
    computed = Computed.of(found)
    return Transformer(kept, computed, computed.forward / max(forward, 1))


def _scaled(term: Term, by: int, over: int) -> Term:
    work = Work(term.work.forward * by // over, term.work.backward * by // over)
    return Term(term.module, term.modality, term.kind, work, term.attention_bytes * by // over)
