"""LoRA: it starts where the model stood, changes only what it may, and merges to the same numbers."""

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

import perceiver
import perceiver.tokens
from perceiver.parts import part_of
from perceiver.tasks import Classification, LoRA
from perceiver.tasks.lora import attention_maps, whole_modules
from tests.builders import CLASSES, raw_entries, small_perceiver_io
from tests.pretrained.test_published import CASES, our_answers, ours, reference
from tests.tasks.test_fine_tuning import classifier, train

pytestmark = [  # Lightning's, about its own code and about machines with more cores
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:Could not find a config file"),  # peft's, of models that are not on the hub
]


@pytest.mark.parametrize("case", [case for case in CASES if "," not in case])
def test_a_published_model_starts_with_its_own_numbers_and_merges_into_its_own_class(case):
    model, batch = ours(case, reference(case)).eval(), CASES[case][2]()
    before, names = our_answers(model, batch), set(model.state_dict())
    lora = LoRA(rank=3)
    lora.prepare(model)
    assert all((our_answers(model, batch)[key] - value).norm() < 1e-5 * value.norm() for key, value in before.items())
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    learned = our_answers(model, batch)
    assert lora.merge() is model and set(model.state_dict()) == names
    assert all(torch.allclose(our_answers(model, batch)[key], value, rtol=1e-3, atol=1e-3) for key, value in learned.items())
    assert any(not torch.allclose(value, before[key], atol=1e-3) for key, value in learned.items())


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_grid_is_read_in_parts_with_the_small_matrices(dropout, monkeypatch):
    model, batch = ours("fourier", reference("fourier")), CASES["fourier"][2]()
    lora = LoRA(rank=3, dropout=dropout)
    lora.prepare(model.train())
    model.double()
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.3)
    found = []
    for large_grid in (10**9, 1):
        monkeypatch.setattr(perceiver.tokens, "LARGE_GRID", large_grid)
        torch.manual_seed(5)
        model.zero_grad()
        out = model({"image": batch["image"].double()})
        out.square().sum().backward()
        found.append([out.detach(), *(p.grad for p in model.parameters() if p.grad is not None and p.grad.norm() > 1e-6)])
    for joined, apart in zip(*found, strict=True):
        assert (joined - apart).norm() < 1e-8 * joined.norm()


def test_what_is_neither_attention_nor_named_stays_to_the_bit(tmp_path):
    lora = LoRA(rank=2, parts=["stacks"], whole=["latents", "heads"])
    before, task = train(tmp_path, lora, steps=3)
    model = lora.merge()
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert {part_of(name) for name in changed} == {"latents", "heads", "stacks.0.0", "adapters.image"}
    assert {name.split(".stacks.0.0.")[1] for name in changed if ".stacks." in name} == {f"attention.to_{x}.weight" for x in ("q", "k", "v", "out")}
    assert all("norm" in name for name in changed if "adapters" in name)  # the stem's batch norm counts what it sees


def test_a_run_is_resumed_and_saved_with_what_it_learned(tmp_path):
    model = classifier()
    rows = [{"image": torch.randn(3, 19, 19), "target": torch.tensor(i % CLASSES)} for i in range(11)]
    quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, log_every_n_steps=1)

    def fit(model, lora, steps, ckpt_path=None):
        task = Classification(model, CLASSES, warmup_steps=1, fine_tuning=lora)
        trainer = L.Trainer(default_root_dir=tmp_path, max_steps=steps, accelerator="cpu", **quiet)
        trainer.fit(task, DataLoader(rows, batch_size=11), DataLoader(rows, batch_size=11), ckpt_path=ckpt_path)
        return trainer

    first, second = LoRA(rank=2), LoRA(rank=2)
    fit(model, first, 2).save_checkpoint(tmp_path / "last.ckpt")
    again = classifier(seed=5)
    trainer = fit(again, second, 3, ckpt_path=tmp_path / "last.ckpt")
    trainer.save_checkpoint(tmp_path / "done.ckpt")
    (expected,) = trainer.test(trainer.lightning_module, DataLoader(rows, batch_size=11), verbose=False)
    fresh = Classification(classifier(seed=6), CLASSES, fine_tuning=LoRA(rank=2))
    assert trainer.test(fresh, DataLoader(rows, batch_size=11), ckpt_path=tmp_path / "done.ckpt", weights_only=True, verbose=False) == [expected]
    second.save(tmp_path / "learned")
    saved = load_file(tmp_path / "learned/adapter_model.safetensors")
    assert {part_of(name.removeprefix("base_model.model.")).split(".")[0] for name in saved} == {
        "latents", "adapters", "queries", "heads", "cross_attends", "stacks", "decoder",
    }  # fmt: skip
    merged = second.merge()
    merged.save_pretrained(tmp_path / "merged")
    picture = {"image": torch.randn(2, 3, 19, 19)}
    assert torch.allclose(perceiver.from_pretrained(tmp_path / "merged")(picture), merged.eval()(picture), atol=1e-6)


def test_the_maps_of_all_attention_are_found_and_nothing_else():
    found = attention_maps(small_perceiver_io())
    assert {name.rsplit(".", 1)[1] for name in found} == {"to_q", "to_k", "to_v", "to_out"}
    assert set(found.values()) == {"cross_attends.0", "stacks.0.0", "decoder"}


def test_whole_parts_are_found_as_their_outermost_modules():
    assert whole_modules(small_perceiver_io(), ["latents", "heads", "adapters.text"]) == [
        "inputs.adapters.text", "inputs.projections.text", "encoder.latents", "head",
    ]  # fmt: skip
    assert "inputs" in whole_modules(small_perceiver_io(), ["adapters"])


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="rank=0: give at least 1"):
        LoRA(rank=0)
    with pytest.raises(ValueError, match="'latents' is no part of this model, which has cross_attends.0, decoder, stacks"):
        LoRA(parts=["latents"]).prepare(small_perceiver_io())
    with pytest.raises(ValueError, match="no model has these small matrices yet"):
        LoRA().merge()
    model = small_perceiver_io()
    LoRA(rank=2).prepare(model)
    with pytest.raises(ValueError, match="already"):
        LoRA(rank=2).prepare(model)
    assert model(raw_entries()).shape[-1] == CLASSES
