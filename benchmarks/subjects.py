"""What `benchmarks/run.py` measures: this library and its peers, with the same weights where they have the same shape.

Each row has a function that builds one side of it, by the name of the subject: `ours`, or a peer. Everything is drawn with the same seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import perceiver
from perceiver.blocks import CrossBlock
from perceiver.positions import FourierPositions
from perceiver.pretrained.architectures import PUBLISHED, architecture
from perceiver.pretrained.semantics import semantics
from perceiver.tokens import Tokens

Build = Callable[[str], "Subject"]


@dataclass(frozen=True)
class Subject:
    """One side of a row.

    Attributes:
        run: computes the output.
        learns: what gets gradients in a step.
    """

    run: Callable[[], Tensor]
    learns: Sequence[Tensor]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        build: makes a side by its name.
        peers: the other sides.
        step: whether a backward pass follows.
        same: whether both sides have the same weights, so that their outputs can be compared.
        bf16: whether both sides compute under autocast to bfloat16; the loss of a step and the comparison stay in float32.
        repeats: timed passes at most, after the one that warms up; None = as many as are asked for.
    """

    build: Build
    peers: tuple[str, ...]
    step: bool = False
    same: bool = True
    bf16: bool = False
    repeats: int | None = None


def published(name: str) -> tuple[nn.Module, nn.Module]:
    """A published architecture with random weights: transformers' class, and ours with the same weights."""
    import transformers

    config = PUBLISHED[f"deepmind/{name}"]
    numbers = {key: value for key, value in asdict(config).items() if key != "architecture"} | {"attention_probs_dropout_prob": 0.0}
    torch.manual_seed(0)
    theirs = getattr(transformers, config.architecture)(transformers.PerceiverConfig(**numbers)).eval()
    model = architecture(config.architecture).build(config, semantics("hf")).eval()
    names = architecture(config.architecture).names(config)
    model.load_state_dict({names[key]: weight for key, weight in theirs.state_dict().items()})
    return theirs, model


def latents(theirs: nn.Module) -> Tensor:
    """The latents of one row, as a leaf."""
    return theirs.perceiver.embeddings(1).detach().clone().requires_grad_()


def cross_attend(name: str, batch: Callable[[], dict[str, Tensor]], subject: str) -> Subject:
    """The attention of the first read alone, norms and projections included; inputs are preprocessed beforehand on both sides."""
    theirs, model = published(name)
    x, layer = latents(theirs), theirs.perceiver.encoder.cross_attention.attention
    block = model.encoder.cross[0]
    given = batch()
    if subject == "ours":
        with torch.no_grad():
            segments = {key: tokens if tokens.in_parts else tokens.dense() for key, tokens in model.inputs(given)[0].items()}
        return Subject(lambda: block.attention(block.norm_x(x), block._normed(segments)) + x, [x, *block.attention.parameters()])
    with torch.no_grad():
        tokens = theirs.perceiver.input_preprocessor(given if len(given) > 1 else next(iter(given.values())))[0]
    if subject == "transformers":
        return Subject(lambda: layer(x, None, tokens, None)[0], [x, *layer.parameters()])
    core = layer.self

    def with_sdpa() -> Tensor:
        q, y = core.query(core.layernorm1(x)), core.layernorm2(tokens)
        read = F.scaled_dot_product_attention(q[:, None], core.key(y)[:, None], core.value(y)[:, None])[:, 0]
        return layer.output(read) + x

    return Subject(with_sdpa, [x, *layer.parameters()])


def whole(name: str, batch: Callable[[], dict[str, Tensor]], subject: str, *, places: dict[str, Tensor] | None = None) -> Subject:
    """A whole published model, from raw inputs to outputs; the autoencoder writes some places."""
    theirs, model = published(name)
    given = batch()
    if places is not None:
        sides = {
            "ours": lambda: torch.cat([part.flatten() for part in model(given, places).values()]),
            "transformers": lambda: torch.cat(
                [part.flatten() for part in theirs(inputs=given, subsampled_output_points=places | {"label": None}).logits.values()]
            ),
        }
    else:
        sides = {"ours": lambda: model(given), "transformers": lambda: theirs(inputs=next(iter(given.values()))).logits}
    return Subject(sides[subject], list((model if subject == "ours" else theirs).parameters()))


def whole_video(subject: str) -> Subject:
    """A whole video, its sound and its label, encoded once and written at every place: 802,816 pixels, 1,920 patches of sound, one label.

    Ours answers the queries in the chunks that the published model has by itself. A pass of either side can take minutes, so that the row is
    timed once; the pass that warms up is dropped there too, and is the one whose outputs are compared.
    """
    theirs, model = published("multimodal-perceiver")
    given = clip()
    if subject == "transformers":
        return Subject(lambda: in_chunks(theirs, given), list(theirs.parameters()))
    return Subject(lambda: torch.cat([part.flatten() for part in model(given).values()]), list(model.parameters()))


def in_chunks(theirs: nn.Module, given: dict[str, Tensor]) -> Tensor:
    """The same out of transformers' class, as somebody who knows it well would do it: its modules are called one after another.

    As its documentation does, it is asked for a 128th of the places at a time (`subsampled_output_points`): it cannot write all of them at once.
    The documentation calls the whole model for each chunk, which encodes the same clip 128 times; here it is encoded once. Each chunk answers
    the label's query too, which its decoder cannot leave out.
    """
    core = theirs.perceiver
    tokens, sizes, contents = core.input_preprocessor(given)
    read = core.encoder(core.embeddings(1), inputs=tokens)[0]
    written: dict[str, list[Tensor]] = {"audio": [], "image": [], "label": []}
    for image, audio in zip(torch.arange(PIXELS_WRITTEN).chunk(128), torch.arange(SOUNDS_WRITTEN).chunk(128), strict=True):
        queries = core.decoder.decoder_query(tokens, sizes, contents, subsampled_points={"image": image, "audio": audio})
        answers = core.decoder(queries, z=read).logits
        parts = core.output_postprocessor(answers, modality_sizes={"audio": len(audio), "image": len(image), "label": 1})
        for name, part in parts.items():
            written[name].append(part)
    video = torch.cat(written["image"], 1).unflatten(1, (16, 224, 224)).permute(0, 1, 4, 2, 3)  # as the other side gives it
    return torch.cat([part.flatten() for part in (*written["audio"], video, written["label"][0])])


def growing(side: int, subject: str) -> Subject:
    """512 latents read a square of `side` x `side` pixels, 64 bands an axis, one head."""
    torch.manual_seed(0)
    positions = FourierPositions((side, side), 64)
    block = CrossBlock(1024, 3 + positions.width, qk_dim=261)
    x, pixels = torch.randn(1, 512, 1024, requires_grad=True), torch.randn(1, side * side, 3)
    tokens = Tokens(pixels, (side, side), positions((side, side)))
    return Subject(lambda: block.attention(block.norm_x(x), block._normed({"pixels": tokens})), [x, *block.attention.parameters()])


def original(subject: str) -> Subject:
    """The first Perceiver: pixels of 224 x 224 read eight times, all reads but the first with the same weights, as are the layers between them.

    Both sides have 256 latents of 512 channels, 64 bands, one head of 64 channels a read, and two layers of 8 heads of 64 after each.
    """
    torch.manual_seed(0)
    picture = torch.randn(1, 3, 224, 224)
    if subject == "ours":
        model: nn.Module = perceiver.Perceiver(
            adapters={"image": perceiver.ImagePixels(3, (224, 224), mean=0.0, std=1.0)},
            encoder=perceiver.Encoder(
                256,
                512,
                261,
                cross_attend=(0, *[1] * 7),
                self_attend=[0] * 8,
                num_layers=2,
                cross_block=partial(CrossBlock, heads=1, qk_dim=64),
                self_block=partial(perceiver.SelfBlock, heads=8),
            ),
            head=nn.Linear(512, 1000),
        )
        return Subject(lambda: model({"image": picture}), list(model.parameters()))
    from perceiver_pytorch import Perceiver

    options = {"num_latents": 256, "latent_dim": 512, "cross_heads": 1, "cross_dim_head": 64, "latent_heads": 8, "latent_dim_head": 64}
    model = Perceiver(num_freq_bands=64, depth=8, max_freq=224, num_classes=1000, weight_tie_layers=True, self_per_cross_attn=2, **options)
    channels_last = picture.permute(0, 2, 3, 1)
    return Subject(lambda: model(channels_last), list(model.parameters()))


def picture() -> dict[str, Tensor]:
    """One picture for ImageNet's models."""
    return {"image": torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))}


def clip() -> dict[str, Tensor]:
    """One clip with its sound and no label."""
    draw = torch.Generator().manual_seed(1)
    video, sound = torch.rand(1, 16, 3, 224, 224, generator=draw), torch.rand(1, 30_720, 1, generator=draw) * 2 - 1
    return {"image": video, "audio": sound, "label": torch.zeros(1, 700)}


def frames() -> dict[str, Tensor]:
    """Two frames for optical flow."""
    return {"frames": torch.rand(1, 2, 27, 368, 496, generator=torch.Generator().manual_seed(1)) * 2 - 1}


PIXELS_WRITTEN, SOUNDS_WRITTEN = 16 * 224 * 224, 1_920  # places of the autoencoder's video, and of its sound
SOME = {"image": torch.arange(0, PIXELS_WRITTEN, 128), "audio": torch.arange(0, SOUNDS_WRITTEN, 128)}
PIXELS = partial(cross_attend, "vision-perceiver-fourier", picture)
VIDEO = partial(cross_attend, "multimodal-perceiver", clip)
AUTOENCODER = partial(whole, "multimodal-perceiver", clip, places=SOME)
IMAGENET = partial(whole, "vision-perceiver-fourier", picture)
FLOW = partial(whole, "optical-flow-perceiver", frames)

ROWS = {
    "imagenet-cross-forward": Row(PIXELS, ("transformers", "sdpa")),
    "imagenet-cross-step": Row(PIXELS, ("transformers", "sdpa"), step=True),
    "multimodal-cross-forward": Row(VIDEO, ("transformers",)),
    "multimodal-cross-step": Row(VIDEO, ("transformers",), step=True),
    "multimodal-forward": Row(AUTOENCODER, ("transformers",)),
    "whole-video": Row(whole_video, ("transformers",), repeats=1),
    "imagenet-forward": Row(IMAGENET, ("transformers",)),
    "imagenet-step": Row(IMAGENET, ("transformers",), step=True),
    "imagenet-forward-bf16": Row(IMAGENET, ("transformers",), bf16=True),
    "imagenet-step-bf16": Row(IMAGENET, ("transformers",), step=True, bf16=True),
    "flow-step": Row(FLOW, ("transformers",), step=True, repeats=1),
    "original-forward": Row(original, ("perceiver-pytorch",), same=False),
    "original-step": Row(original, ("perceiver-pytorch",), step=True, same=False),
    **{f"growth-{side * side}": Row(partial(growing, side), (), step=True) for side in (64, 128, 256, 512, 1024, 2048)},
}
