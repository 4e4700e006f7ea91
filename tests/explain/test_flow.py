"""Flow from the answer to the inputs: what is known without following it, and what following must keep."""

from functools import partial

import pytest
import torch
from builders import CLASSES, CONTEXT_DIM, DIM, LATENTS, NAMES, compact_batch, presence_table, raw_entries, three_adapters
from torch import nn

from perceiver import CrossBlock, Decoder, Encoder, LearnedQueries, PerceiverIO, SelfBlock, record_attention
from perceiver.explain.attention.flow import GRADIENT, ROLLOUT, VALUE_NORM, relevance
from perceiver.explain.attention.gradients import completeness_error, integrated_gradients
from perceiver.explain.attention.passage import following
from perceiver.explain.subject import Subject


def model(num_layers: int = 1, reads: int = 1, queries: int = 1, scale: float = 2) -> PerceiverIO:
    encoder = Encoder(
        LATENTS,
        DIM,
        CONTEXT_DIM,
        cross_attend=tuple(range(reads)),
        self_attend=(0,) * reads,
        num_layers=num_layers,
        cross_block=partial(CrossBlock, heads=2),
        self_block=partial(SelfBlock, heads=2),
    )
    made = PerceiverIO(three_adapters(), encoder, LearnedQueries(queries, 13), Decoder(13, DIM), nn.Linear(13, CLASSES)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(scale)
    return made


def batch() -> dict[str, torch.Tensor]:
    return compact_batch(raw_entries(), presence_table([7, 2, 5, 4, 3]))


def test_without_layers_between_rollout_is_the_decoders_attention_times_the_encoders():
    made, rows = model(num_layers=0, queries=2), batch()
    with record_attention(made) as maps, following(made) as passage, torch.no_grad():
        made(rows)
    read, answer = maps
    found = relevance(passage(), ROLLOUT, each_query=True)
    for name in NAMES:
        expected = answer.weights["context"] @ read.weights[name].flatten(2)
        torch.testing.assert_close(found[name], expected)


@pytest.mark.parametrize("way", [ROLLOUT, VALUE_NORM], ids=["rollout", "value norm"])
def test_all_of_an_answer_comes_from_somewhere_and_none_of_it_from_what_a_row_lacks(way):
    made, rows = model(num_layers=2, reads=3), batch()
    with following(made) as passage, torch.no_grad():
        made(rows)
    found = relevance(passage(), way)
    torch.testing.assert_close(sum(part.sum((1, 2)) for part in found.values()), torch.ones(5))
    for name in NAMES:
        assert float(found[name][~rows[f"{name}_present"]].abs().sum()) == 0


def test_the_mean_over_output_queries_is_the_mean_of_each():
    made, rows = model(queries=3), batch()
    with following(made) as passage, torch.no_grad():
        made(rows)
    apart, together = relevance(passage(), ROLLOUT, each_query=True), relevance(passage(), ROLLOUT)
    for name in NAMES:
        torch.testing.assert_close(apart[name].mean(1, keepdim=True), together[name])


def test_queries_that_are_answered_a_few_at_a_time_are_followed_as_if_all_at_once():
    made, rows = model(queries=5), batch()
    with following(made) as passage, torch.no_grad():
        made(rows)
    for each in (True, False):
        whole = relevance(passage(), ROLLOUT, each_query=each)
        made.decoder.chunk_size = 2
        with following(made) as chunked, torch.no_grad():
            made(rows)
        made.decoder.chunk_size = None
        assert len(chunked().calls) == len(passage().calls) + 2
        for name in NAMES:
            torch.testing.assert_close(relevance(chunked(), ROLLOUT, each_query=each)[name], whole[name])


def test_gradient_x_attention_with_one_head_is_the_derivative_by_the_weights_where_it_is_positive():
    encoder = Encoder(LATENTS, DIM, CONTEXT_DIM, num_layers=0, cross_block=partial(CrossBlock, heads=1))
    made = PerceiverIO(three_adapters(), encoder, LearnedQueries(1, 13), Decoder(13, DIM), nn.Linear(13, CLASSES)).eval()
    rows = batch()
    with following(made) as passage:
        score = made(rows)[:, 0, 2]
    found = relevance(passage(), GRADIENT, score)
    read, answer = passage().calls
    q, k, v, mask = read.project()
    weights = (q @ k.transpose(-1, -2) * DIM**-0.5).masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0).detach().requires_grad_()

    def answered(weights: torch.Tensor) -> torch.Tensor:
        """The model with these weights in its one read."""
        block = made.encoder.cross[0]
        latents = made.encoder.latents(5)
        x = latents + block.attention.to_out((weights @ v)[:, 0])
        x = x + block.mlp(block.norm_mlp(x))
        return made.head(made.decoder(made.queries({}, 5), x))[:, 0, 2]

    torch.testing.assert_close(answered(weights), score)
    (by_weight,) = torch.autograd.grad(answered(weights).sum(), weights)
    gained = (by_weight * weights).clamp_min(0)[:, 0]
    q, k, v, _ = answer.project()
    asked = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    with following(made) as again:
        other = made(rows)[:, 0, 2]
    (gradient,) = torch.autograd.grad(other.sum(), again().calls[1].output)
    by_value = (gradient @ made.decoder.cross.attention.to_out.weight)[:, None] @ v.transpose(-1, -2)
    expected = (by_value * asked).clamp_min(0)[:, 0] @ gained
    torch.testing.assert_close(torch.cat([found[name] for name in read.grids], -1), expected)


def test_what_needs_a_gradient_and_has_none_is_refused():
    made, rows = model(), batch()
    with following(made) as passage, torch.no_grad():
        score = made(rows)[:, 0, 0]
    with pytest.raises(ValueError, match="needs the gradient of a score"):
        relevance(passage(), GRADIENT, score)


def test_integrated_gradients_sum_up_to_what_the_data_of_all_tokens_add():
    subject, rows = Subject(model(num_layers=2, reads=2, scale=1)), batch()
    chosen = torch.tensor([0, 6, 2, 1, 5])
    found = integrated_gradients(subject, rows, lambda: subject.log_odds(rows, chosen))
    assert float(completeness_error(subject, rows, lambda: subject.log_odds(rows, chosen), found).max()) < 0.01
    found["image"][2] += 1
    assert float(completeness_error(subject, rows, lambda: subject.log_odds(rows, chosen), found)[2]) > 0.01
    for name in NAMES:
        assert float(found[name][~rows[f"{name}_present"]].abs().sum()) == 0


def test_a_model_without_attention_to_its_inputs_cannot_be_followed():
    only = nn.Sequential(SelfBlock(DIM, heads=2))
    with following(only) as passage:
        only(torch.randn(2, 3, DIM))
    with pytest.raises(ValueError, match="no attention reads the inputs"):
        relevance(passage(), ROLLOUT)
