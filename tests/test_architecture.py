"""The house: arrows point one way, imports stay light, names are documented, the wheel holds the library and no more."""

import ast
import inspect
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import perceiver

PACKAGE = Path(perceiver.__file__).parent
TRUNK = {
    "linear",
    "initialization",
    "positions",
    "tokens",
    "grid_attention",
    "softmax",
    "attention",
    "fixed_attention",
    "qk_norm",
    "blocks",
    "registers",
    "encoder",
    "decoder",
    "queries",
}
MAY_IMPORT = {
    "description": set(),
    "rest": set(),
    "ranks": set(),
    "out_of_memory": set(),
    "checkpoints": set(),
    "weights": set(),
    "parts": set(),
    "linear": {"description"},
    "initialization": {"description", "linear"},
    "tokenizer": set(),
    "run_folder": set(),
    "model_folder": {"checkpoints", "description", "weights"},
    "hub": {"model_folder"},
    "positions": {"description", "initialization"},
    "tokens": {"positions"},
    "grid_attention": {"linear", "tokens"},
    "softmax": set(),
    "attention": {"description", "grid_attention", "initialization", "softmax", "tokens"},
    "blocks": {"description", "initialization", "attention", "tokens"},
    "fixed_attention": {"attention", "description", "initialization", "tokens"},
    "qk_norm": {"attention", "tokens"},
    "registers": {"description", "initialization", "positions", "tokens"},
    "encoder": {"description", "initialization", "blocks", "registers", "tokens"},
    "decoder": {"description", "blocks", "tokens"},
    "queries": {"description", "initialization", "positions", "tokens"},
    "soft_weights": {"attention", "softmax", "tokens"},
    "adapters": {"description", "initialization", "positions", "tokens", "tokenizer"},
    "models": {
        "adapters",
        "blocks",
        "decoder",
        "description",
        "encoder",
        "hub",
        "initialization",
        "linear",
        "model_folder",
        "positions",
        "queries",
        "tokenizer",
        "tokens",
    },
    "pretrained": {
        "adapters",
        "attention",
        "blocks",
        "checkpoints",
        "decoder",
        "description",
        "encoder",
        "hub",
        "model_folder",
        "models",
        "parts",
        "positions",
        "queries",
        "tokenizer",
        "tokens",
        "weights",
    },
    "data": {"tokenizer"},
    "tasks": {
        "adapters",
        "checkpoints",
        "description",
        "encoder",
        "initialization",
        "models",
        "out_of_memory",
        "parts",
        "positions",
        "pretrained",
        "queries",
        "ranks",
        "registers",
        "rest",
        "tokenizer",
        "weights",
    },
    "cost": {"adapters", "attention", "grid_attention", "linear", "models", "parts", "tokens"},
    "explain": {
        "adapters",
        "attention",
        "blocks",
        "cost",
        "data",
        "description",
        "ranks",
        "rest",
        "soft_weights",
        "softmax",
        "tokenizer",
        "tokens",
        "run_folder",
    },
    "resume": {"checkpoints", "ranks", "run_log"},
    "guards": {"adapters", "cost", "data", "out_of_memory", "resume", "rest"},
    "run_log": {"run_folder"},
    "lightning_cli": {"attention", "checkpoints", "explain", "fixed_attention", "guards", "resume", "run_folder", "run_log"},
    "reason": {"pretrained"},
    "recipe": {"lightning_cli", "reason"},
    "commands": {"checkpoints", "cost", "explain", "model_folder", "pretrained", "recipe", "run_folder", "weights"},
    "cli": {"commands", "guards", "lightning_cli", "reason"},
}


def imports_of(file: Path) -> set[str]:
    """Parts of the library that a file imports."""
    names = [node.module or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import) for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("perceiver.")}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_arrows_point_one_way(file):
    part = file.relative_to(PACKAGE).with_suffix("").parts[0]
    if part != "__init__":
        assert imports_of(file) <= MAY_IMPORT[part] | {part}


def test_a_modality_of_the_data_knows_neither_mixtures_nor_manifests():
    for modality in ("image", "audio", "text", "video"):
        for file in (PACKAGE / "data" / modality).glob("*.py"):
            assert not any(f"perceiver.data.{part}" in file.read_text().split('"""', 2)[2] for part in ("mixture", "manifest", "columns", "pairs")), (
                file
            )


def test_nothing_below_the_tasks_imports_lightning():
    for part in MAY_IMPORT.keys() - {"tasks", "data", "explain", "guards", "resume", "run_log", "lightning_cli", "recipe", "cli"}:
        files = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else (PACKAGE / part).rglob("*.py")
        for file in files:
            assert not re.search(r"^\s*(import|from) lightning", file.read_text(), re.MULTILINE), file


def test_import_perceiver_is_light():
    code = "import sys, perceiver; print(*[m for m in ('lightning', 'torchvision', 'torchaudio', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent).stdout.strip() == ""


@pytest.mark.parametrize("name", perceiver.__all__)
def test_every_public_name_says_what_it_is(name):
    assert len(inspect.getdoc(getattr(perceiver, name)) or "") > 20


def test_no_file_is_longer_than_a_sitting_and_none_is_a_grab_bag():
    for file in PACKAGE.rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 400, file
        assert file.stem not in {"utils", "util", "common", "helpers", "misc"}


def test_the_wheel_holds_the_library_its_page_its_kernel_and_nothing_else(tmp_path):
    root = PACKAGE.parent
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, root],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("perceiver_lightning-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"perceiver", f"perceiver_lightning-{perceiver.__version__}.dist-info"}
    kinds = {".py", ".html", ".css", ".js", ".cpp", ".typed"}
    inside = {str(file.relative_to(root)) for file in PACKAGE.rglob("*") if file.suffix in kinds or file.name == "py.typed"}
    assert inside == {name for name in names if name.startswith("perceiver/")}
