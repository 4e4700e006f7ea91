"""Adapters: from a raw entry to tokens; what is invalid reaches no token, and what does not fit is refused with both numbers."""

import math
import subprocess
import sys

import pytest
import torch
from builders import without_shape_checks
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from perceiver import tokenizer
from perceiver.adapters import Adapter, AudioPatches, ByteNgrams, ImagePatches, ImagePixels, LogMel, TextBytes
from perceiver.adapters.image_map import IMAGENET_MEAN, IMAGENET_STD, ConvStem, ImageMap
from perceiver.adapters.log_mel import FLOOR
from perceiver.adapters.padded import SoundPatches
from perceiver.positions import FourierPositions
from perceiver.tokens import Tokens

NAN, INF = math.nan, math.inf


def projected_with_gradients(adapter: Adapter, tokens: Tokens) -> list[Tensor]:
    """Tokens behind a projection, and the gradients that a loss over all of them gives it."""
    torch.manual_seed(3)
    project = nn.Linear(adapter.feature_dim + adapter.position_dim, 11)
    dense = Tokens(tokens.features, tokens.grid, tokens.positions, tokens.mask, project=project).dense().features
    dense.square().sum().backward()
    return [dense.detach(), project.weight.grad, project.bias.grad]


def check_contract(adapter: Adapter, tokens: Tokens) -> None:
    """Widths and numbers of tokens are what the adapter says."""
    assert tokens.features.shape[1:] == (math.prod(tokens.grid), adapter.feature_dim)
    assert tokens.positions is not None
    assert (tokens.positions.num_tokens, tokens.positions.width) == (tokens.features.shape[1], adapter.position_dim)
    assert tokens.features.dtype == torch.float32


# Pictures


def test_a_pixel_becomes_a_token_row_by_row() -> None:
    adapter, picture = ImagePixels(2, (5, 3), num_bands=4, mean=0.0, std=1.0), torch.rand(7, 2, 5, 3)
    tokens = adapter(picture)
    check_contract(adapter, tokens)
    assert tokens.grid == (5, 3) and tokens.mask is None
    assert torch.equal(tokens.features, picture.flatten(2).transpose(1, 2))
    assert torch.equal(tokens.positions.dense(), FourierPositions((5, 3), 4)((5, 3)).dense())


def test_a_patch_becomes_a_token_with_its_channels_outermost_and_its_columns_innermost() -> None:
    adapter, picture = ImagePatches(2, (6, 15), patch=3, num_bands=2, mean=0.0, std=1.0), torch.rand(7, 2, 6, 15)
    tokens = adapter(picture)
    check_contract(adapter, tokens)
    assert tokens.grid == (2, 5) and adapter.feature_dim == 18
    for row in range(2):
        for column in range(5):
            patch = picture[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert torch.equal(tokens.features[:, row * 5 + column], patch.flatten(1))


def test_bytes_equal_floats() -> None:
    adapter, picture = ImagePixels(3, (5, 7)), torch.randint(256, (2, 3, 5, 7), dtype=torch.uint8)
    assert torch.equal(adapter(picture).features, adapter(picture.float() / 255).features)


def test_each_channel_is_standardised_by_its_own_mean_and_width() -> None:
    mean, std = (0.1, 0.4, 0.7), (0.2, 0.5, 0.3)
    picture = torch.rand(2, 3, 5, 7)
    expected = (picture - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    found = ImagePixels(3, (5, 7), mean=mean, std=std)(picture).features
    assert torch.equal(found, expected.flatten(2).transpose(1, 2))
    half = ImagePixels(3, (5, 7), mean=0.5, std=0.25)(picture).features
    torch.testing.assert_close(half, ((picture - 0.5) / 0.25).flatten(2).transpose(1, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("std", [0.0, -0.5, (0.5, 0.0, 0.5), NAN])
def test_a_standard_deviation_that_is_not_positive_is_refused(std: float | tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="std=.*positive"):
        ImagePixels(3, (5, 7), std=std)


@pytest.mark.parametrize("shape", [(3, 7, 5), (3, 5, 11), (1, 5, 7)])
def test_pictures_of_another_size_or_with_other_channels_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"\(3, 5, 7\).*\({shape[0]}, {shape[1]}, {shape[2]}\)"):
        ImagePixels(3, (5, 7))(torch.rand(2, *shape))


def test_a_picture_without_an_axis_for_rows_is_refused() -> None:
    with without_shape_checks(), pytest.raises(ValueError, match=r"\(3, 5, 7\)"):
        ImagePixels(3, (5, 7))(torch.rand(3, 5, 7))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.bool])
def test_pictures_of_integers_other_than_bytes_are_refused_with_their_type(dtype: torch.dtype) -> None:
    with without_shape_checks(), pytest.raises(ValueError, match=rf"floats.*uint8.*{dtype}"):
        ImagePixels(3, (5, 7))(torch.ones(2, 3, 5, 7, dtype=dtype))


def test_patches_that_do_not_tile_a_picture_are_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match="4 x 4.*6 x 16"):
        ImagePatches(3, (6, 16), patch=4)


@pytest.mark.parametrize("junk", [NAN, INF, -1e30])
@pytest.mark.parametrize("patch", [1, 3])
def test_an_invalid_pixel_reaches_neither_a_token_nor_a_gradient(junk: float, patch: int) -> None:
    adapter = ImagePatches(2, (6, 15), patch=patch, num_bands=2)
    picture, mask = torch.rand(2, 2, 6, 15), torch.rand(2, 6, 15) < 0.5
    mask[0, :3, 3:6] = False
    mask[1] = False
    clean = adapter(picture, mask)
    dirty = adapter(picture.masked_fill(~mask[:, None], junk), mask)
    assert dirty.features.isfinite().all() and torch.equal(clean.features, dirty.features)
    for a, b in zip(projected_with_gradients(adapter, clean), projected_with_gradients(adapter, dirty), strict=True):
        assert b.isfinite().all() and torch.equal(a, b)


def test_an_invalid_pixel_reads_as_a_pixel_of_the_mean() -> None:
    adapter, mask = ImagePatches(2, (6, 15), patch=3, num_bands=2, mean=(0.3, 0.6)), torch.rand(7, 6, 15) < 0.5
    picture = torch.rand(7, 2, 6, 15)
    mean = torch.tensor([0.3, 0.6])[:, None, None].expand_as(picture)
    assert torch.equal(adapter(picture, mask).features, adapter(torch.where(mask[:, None], picture, mean)).features)


def test_a_patch_may_be_attended_if_any_of_its_pixels_is_valid() -> None:
    adapter, mask = ImagePatches(2, (6, 15), patch=3, num_bands=2), torch.zeros(2, 6, 15, dtype=torch.bool)
    mask[0, 4, 11] = mask[1, 0, 0] = True
    found = adapter(torch.rand(2, 2, 6, 15), mask).mask
    assert found.nonzero().tolist() == [[0, 8], [1, 0]]


def test_an_adapter_of_pictures_has_nothing_to_save() -> None:
    assert not ImagePixels(3, (5, 7)).state_dict()


def test_a_picture_through_a_stem_comes_as_bytes_or_standardised():
    adapter = ImageMap(ConvStem(3, 5), 5, FourierPositions((3, 5), 2)).eval()
    picture = torch.randint(0, 256, (2, 3, 11, 17), dtype=torch.uint8)
    standardised = (picture / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    assert torch.equal(adapter(picture).features, adapter(standardised).features)
    with pytest.raises(ValueError, match="pictures of 1 channels, and bytes are standardised for 3"):
        ImageMap(nn.Identity(), 1, FourierPositions((11, 17), 2))(picture[:, :1])
    with without_shape_checks(), pytest.raises(ValueError, match="got torch.int64"):
        adapter(picture.long())


# Sounds: raw samples


def sound_adapter(**options: int) -> AudioPatches:
    return AudioPatches(50, 1.3, patch=5, num_bands=3, **options)


def test_samples_become_tokens_in_their_order_with_channels_innermost() -> None:
    adapter, sound = sound_adapter(channels=2), torch.rand(3, 2, 35)
    tokens = adapter(sound)
    check_contract(adapter, tokens)
    assert tokens.grid == (7,) and tokens.mask.all() and adapter.feature_dim == 10
    assert torch.equal(tokens.features.reshape(3, 7, 5, 2), sound.reshape(3, 2, 7, 5).permute(0, 2, 3, 1))


@pytest.mark.parametrize("length", [1, 4, 5, 33, 65])
def test_padding_a_batch_further_never_changes_a_token_of_a_shorter_sound_by_a_bit(length: int) -> None:
    adapter, sound = sound_adapter(), torch.rand(2, 1, 65)
    alone = adapter(sound[..., :length])
    for padded in (min(length + 1, 65), 65):
        tokens = adapter(sound[..., :padded], (torch.arange(padded) < length).expand(2, -1))
        number = alone.features.shape[1]
        assert torch.equal(tokens.features[:, :number], alone.features)
        assert torch.equal(tokens.positions.dense()[:number], alone.positions.dense())
        assert tokens.mask[:, :number].all() and not tokens.mask[:, number:].any()


def mel_adapter(**options: object) -> LogMel:
    return LogMel(8_000, 0.7, **{"num_mels": 21, "patch": (3, 7), "num_bands": 2, **options})


@pytest.mark.parametrize("length", [1, 79, 80, 81, 2_003, 5_600])
def test_padding_a_batch_further_never_changes_a_mel_token_of_a_shorter_sound(length: int) -> None:
    adapter, sound = mel_adapter(), torch.rand(2, 1, 5_600) * 2 - 1
    # Beside a length, even where nothing was padded: a frame centred just behind the sound's end is never heard.
    alone = adapter(sound[..., :length], torch.ones(2, length, dtype=torch.bool))
    tokens = adapter(sound, (torch.arange(5_600) < length).expand(2, -1))
    number = math.prod(alone.grid)
    torch.testing.assert_close(tokens.features[:, :number], alone.features, rtol=0, atol=1e-5)
    assert torch.equal(tokens.positions.dense()[:number], alone.positions.dense())
    assert torch.equal(tokens.mask[:, :number], alone.mask) and not tokens.mask[:, number:].any()
    torch.testing.assert_close(alone.features, adapter(sound[..., :length]).features)


@pytest.mark.parametrize("adapter", [sound_adapter(), mel_adapter()], ids=["AudioPatches", "LogMel"])
@pytest.mark.parametrize("junk", [NAN, INF, 1e30])
def test_what_lies_behind_the_end_of_a_sound_reaches_neither_a_token_nor_a_gradient(adapter: Adapter, junk: float) -> None:
    size = adapter.max_samples
    sound, mask = torch.rand(3, 1, size), torch.arange(size) < torch.tensor([0, size // 2 + 1, size])[:, None]
    clean = adapter(sound.masked_fill(~mask[:, None], 0), mask)
    dirty = adapter(sound.masked_fill(~mask[:, None], junk), mask)
    assert dirty.features.isfinite().all() and torch.equal(clean.features, dirty.features) and torch.equal(clean.mask, dirty.mask)
    assert not dirty.mask[0].any() and dirty.mask[2].any()
    for a, b in zip(projected_with_gradients(adapter, clean), projected_with_gradients(adapter, dirty), strict=True):
        assert b.isfinite().all() and torch.equal(a, b)


@pytest.mark.parametrize("adapter", [sound_adapter(), mel_adapter()], ids=["AudioPatches", "LogMel"])
def test_sounds_that_do_not_fit_are_refused_with_the_numbers(adapter: Adapter) -> None:
    longest = adapter.max_samples
    assert adapter(torch.rand(2, 1, longest)).features.isfinite().all()
    with pytest.raises(ValueError, match=f"{longest + 1} samples.*1 to {longest}"):
        adapter(torch.rand(2, 1, longest + 1))
    with pytest.raises(ValueError, match=f"0 samples.*1 to {longest}"):
        adapter(torch.rand(2, 1, 0))
    with without_shape_checks():
        with pytest.raises(ValueError, match=r"1 channels.*\(2, 3, 7\)"):
            adapter(torch.rand(2, 3, 7))
        with pytest.raises(ValueError, match=r"1 channels.*\(2, 7\)"):
            adapter(torch.rand(2, 7))
        with pytest.raises(ValueError, match=r"floats.*torch.int16"):
            adapter(torch.ones(2, 1, 7, dtype=torch.int16))


@pytest.mark.parametrize(("rate", "seconds", "options"), [(0, 1.0, {}), (-50, 1.0, {}), (50, 0.0, {}), (50, -1.0, {}), (50, 1.0, {"patch": 0})])
def test_rates_times_and_patches_that_are_not_positive_are_refused(rate: int, seconds: float, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"sample_rate={rate} Hz, max_seconds={seconds}.*positive"):
        AudioPatches(rate, seconds, **options)


@pytest.mark.parametrize(
    ("rate", "seconds", "options", "message"),
    [
        (0, 1.0, {}, "sample_rate=0 Hz"),
        (999, 1.0, {}, "sample_rate=999 Hz"),
        (8_000, 0.0, {}, "max_seconds=0"),
        (8_000, 1.0, {"num_mels": 21, "patch": (3, 5)}, "5 mel bands do not tile 21"),
    ],
)
def test_spectrograms_that_cannot_be_are_refused_with_the_numbers(rate: int, seconds: float, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMel(rate, seconds, **options)


@pytest.mark.parametrize(("rate", "num_mels"), [(8_000, 21), (16_000, 40), (11_025, 19)])
def test_mel_energies_are_those_of_torchaudio(rate: int, num_mels: int) -> None:
    adapter = LogMel(rate, 0.5, num_mels=num_mels, patch=(3, num_mels))
    sound = torch.rand(3, 1, rate // 3) * 2 - 1
    window = rate * 32 // 1000
    reference = MelSpectrogram(
        rate, n_fft=2 ** math.ceil(math.log2(window)), win_length=window, hop_length=rate // 100, n_mels=num_mels, pad_mode="constant"
    )
    energies = reference(sound[:, 0]).transpose(1, 2)
    found = (adapter.spectrogram(sound) * adapter.std + adapter.mean).exp()
    torch.testing.assert_close(found, energies.clamp_min(FLOOR), rtol=1e-3, atol=1e-5)


def test_a_mel_token_holds_frames_outermost_and_its_bands_innermost() -> None:
    adapter, sound = mel_adapter(), torch.rand(2, 1, 1_999) * 2 - 1
    tokens, frames = adapter(sound), adapter.spectrogram(sound)
    check_contract(adapter, tokens)
    assert tokens.grid == (9, 3) and adapter.feature_dim == 21
    for time in range(8):
        for pitch in range(3):
            patch = frames[:, 3 * time : 3 * time + 3, 7 * pitch : 7 * pitch + 7]
            assert torch.equal(tokens.features[:, time * 3 + pitch], patch.flatten(1))


def test_silence_gives_the_floor_and_not_an_infinity() -> None:
    adapter = mel_adapter(mean=0.0, std=1.0)
    assert torch.allclose(adapter.spectrogram(torch.zeros(2, 1, 1_000)), torch.tensor(FLOOR).log())


def test_mel_energies_are_float32_under_autocast() -> None:
    adapter, sound = mel_adapter(), torch.rand(2, 1, 1_999) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        found = adapter.spectrogram(sound)
    assert found.dtype == torch.float32 and torch.equal(found, adapter.spectrogram(sound))


def test_torchaudio_is_imported_only_for_the_adapter_that_needs_it() -> None:
    code = "import sys, perceiver.adapters as a; assert 'torchaudio' not in sys.modules; a.LogMel; assert 'torchaudio' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Text


def test_a_byte_becomes_its_learned_vector_beside_that_of_its_place() -> None:
    adapter, ids = TextBytes(17, 7), torch.randint(6, 262, (3, 11))
    tokens = adapter(ids)
    check_contract(adapter, tokens)
    assert tokens.grid == (11,) and tokens.mask is None and adapter.embedding.num_embeddings == tokenizer.VOCAB_SIZE
    assert torch.equal(tokens.features, adapter.embedding.weight[ids])
    assert torch.equal(tokens.positions.dense(), adapter.positions.weight[:11])


@pytest.mark.parametrize("junk", [-1, 262, 10**12])
def test_ids_behind_the_mask_reach_neither_a_token_nor_a_gradient(junk: int) -> None:
    adapter, ids, mask = TextBytes(17, 7), torch.randint(6, 262, (3, 11)), torch.arange(11) < torch.tensor([0, 5, 11])[:, None]
    found = []
    for entry in (ids.masked_fill(~mask, tokenizer.PAD), ids.masked_fill(~mask, junk)):
        adapter.zero_grad()
        tokens = adapter(entry, mask)
        found.append([tokens.features, *projected_with_gradients(adapter, tokens), adapter.embedding.weight.grad, adapter.positions.weight.grad])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_what_behind_the_mask_is_padding_teaches_the_padding_vector_nothing() -> None:
    adapter, mask = TextBytes(17, 7), torch.arange(11) < torch.tensor([3, 5, 7])[:, None]
    projected_with_gradients(adapter, adapter(torch.randint(6, 262, (3, 11)), mask))
    assert (adapter.embedding.weight.grad[tokenizer.PAD] == 0).all()


def test_a_text_longer_than_the_table_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="19 bytes.*17"):
        TextBytes(17, 7)(torch.zeros(2, 19, dtype=torch.int64))


def test_text_that_is_not_rows_of_whole_numbers_is_refused() -> None:
    adapter = TextBytes(17, 7)
    with without_shape_checks():
        with pytest.raises(ValueError, match=r"torch.float32 of \(2, 5\)"):
            adapter(torch.rand(2, 5))
        with pytest.raises(ValueError, match=r"torch.int64 of \(5,\)"):
            adapter(torch.zeros(5, dtype=torch.int64))


def ngrams(**options) -> ByteNgrams:
    return ByteNgrams(31, 7, **{"sizes": (2, 4), "buckets": 1009, **options})


def test_a_byte_knows_the_few_before_it_and_no_others():
    adapter, ids = ngrams(), torch.randint(6, 262, (3, 19))
    before = adapter(ids).features
    changed = ids.clone()
    changed[:, 5] = (ids[:, 5] - 6 + 100) % 256 + 6
    moved = (adapter(changed).features != before).any(-1)
    assert moved[:, 5:9].all() and not moved[:, :5].any() and not moved[:, 9:].any()


def test_equal_ngrams_have_equal_vectors_wherever_they_stand():
    adapter = ngrams()
    ids = torch.tensor([[70, 71, 72, 73, 74, 90, 70, 71, 72, 73, 74]])
    features = adapter(ids).features[0]
    assert torch.equal(features[3:5], features[9:11]) and not torch.equal(features[2], features[8])  # before the third there is nothing


def test_different_ngrams_share_a_bucket_as_rarely_as_chance_has_it():
    ids = torch.randint(6, 262, (1, 20_001))
    for size, rows in zip((2, 4), ngrams().hashes(ids), strict=True):
        grams = ids.unfold(1, size, 1)[0, 4 - size :]
        rows = rows[0, 3:]
        different = (grams[1:] != grams[:-1]).any(-1)
        assert 0 <= rows.min() and rows.max() < 1009
        assert (rows[1:] == rows[:-1])[different].float().mean() < 4 / 1009
        counts = torch.bincount(rows, minlength=1009).float()
        assert counts.var() / counts.mean() < 4  # 1 when they fall at random; some pairs of bytes come twice


def test_ngrams_of_a_masked_text_are_those_of_the_text_alone():
    adapter, ids = ngrams(), torch.randint(6, 262, (1, 11))
    longer = torch.cat([ids, torch.randint(6, 262, (1, 6))], 1)
    mask = torch.arange(17)[None] < 11
    assert torch.equal(adapter(longer, mask).features[:, :11], adapter(ids).features)


def test_dropped_ngrams_leave_the_byte_itself_and_only_in_training():
    adapter, ids = ngrams(dropout=1.0), torch.randint(6, 262, (2, 13))
    assert torch.equal(adapter.train()(ids).features, adapter.embedding(ids) * 3**-0.5)
    assert torch.equal(adapter.eval()(ids).features, ngrams_like(adapter)(ids).features)


def ngrams_like(other: ByteNgrams) -> ByteNgrams:
    adapter = ngrams()
    adapter.load_state_dict(other.state_dict())
    return adapter


@pytest.mark.parametrize("options", [{"sizes": ()}, {"sizes": (1, 2)}, {"buckets": 0}])
def test_impossible_ngrams_are_refused(options):
    with pytest.raises(ValueError, match="at least 2 bytes, and at least one bucket"):
        ngrams(**options)


def test_samples_over_their_deviation_are_as_a_louder_sound() -> None:
    sound = 0.2 * torch.randn(2, 35, 1)
    quiet, plain = SoundPatches(35, patch=5, num_bands=3, std=0.2), SoundPatches(35, patch=5, num_bands=3)
    torch.testing.assert_close(quiet(sound).dense().features, plain(sound / 0.2).dense().features)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
def test_a_deviation_that_is_none_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="give a positive deviation"):
        SoundPatches(35, std=std)
