"""The code never runs what stands in a file: no unpickling, no eval, no unsafe YAML, no unpacking without a filter, no shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("perceiver", "data", "benchmarks", "examples", "tests", "configs")
FILES = [ROOT / "train.py", *(file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")))]

# What must not be called, by the last words of its name. An empty tuple of arguments: never; else only with these, as constants.
RULES: dict[str, dict[str, object]] = {
    "torch.load": {"weights_only": True},
    "extractall": {"filter": "data"},
    "pickle.load": {},
    "pickle.loads": {},
    "pickle.Unpickler": {},
    "dill.load": {},
    "cloudpickle.load": {},
    "joblib.load": {},
    "torch.hub.load": {},
    "hub.load_state_dict_from_url": {},
    "yaml.load": {},
    "yaml.full_load": {},
    "yaml.unsafe_load": {},
    "os.system": {},
    "os.popen": {},
    "tempfile.mktemp": {},
}
BUILTINS = {"eval", "exec", "__import__"}
DOCS, ATTACK = "runs the code of the documentation, which is ours", "shows what an attack does to those who do not look"
EXCEPTIONS = {
    "tests/test_readme.py": DOCS,
    "tests/test_guide.py": DOCS,
    "tests/test_fine_tuning_guide.py": DOCS,
    "tests/faults/row_12_import.py": ATTACK,
    "tests/faults/row_14_archive.py": ATTACK,
    "tests/faults/subjects/faulty_files.py": ATTACK,
    "tests/faults/subjects/faulty_peers.py": ATTACK,
}


def imported(tree: ast.AST) -> dict[str, str]:
    """What the names that a file imports stand for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offences(code: str) -> Iterator[str]:
    """Calls that may run what a file holds, with their lines."""
    tree = ast.parse(code)
    known = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "marshal", "shelve", "dill", "cloudpickle"):
            yield f"line {node.lineno}: names are imported from {node.module}, so that its calls cannot be seen"
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        name = known.get(first, first) + dot + rest
        if name.startswith("safetensors."):
            continue  # whose functions are called alike
        if name == "pickle.loads" and ast.unparse(node.args[0]).startswith("pickle.dumps("):
            continue  # what a data worker is handed, there and back
        given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        if name in BUILTINS:
            yield f"line {node.lineno}: {name}"
        for rule, needed in RULES.items():
            if (name == rule or name.endswith(f".{rule}")) and (not needed or any(given.get(key) != value for key, value in needed.items())):
                yield f"line {node.lineno}: {name} without {needed or 'being harmless in any form'}"
        if given.get("shell") is True or given.get("allow_pickle") is True:
            yield f"line {node.lineno}: {name} with shell=True or allow_pickle=True"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_code_runs_what_a_file_holds(file):
    excused = str(file.relative_to(ROOT)) in EXCEPTIONS
    assert bool(list(offences(file.read_text()))) == excused  # an exception that is needed no longer goes


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "tar.extractall(folder)",
        "tarfile.open(x).extractall(folder, filter='fully_trusted')",
        "pickle.loads(content)",
        "from pickle import loads",
        "eval(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "subprocess.run(words, shell=True)",
        "np.load(file, allow_pickle=True)",
        "torch.hub.load_state_dict_from_url(address)",
        "from torch import load; load(file)",
        "import torch as t; t.load(file)",
        "from os import system as run; run(words)",
        "import yaml as y; y.load(text)",
    ],
)
def test_what_would_run_it_is_seen(code):
    assert list(offences(code))


def test_what_only_looks_like_it_is_let_through():
    assert not list(offences("model.eval(); torch.load(f, weights_only=True); tar.extractall(x, filter='data'); yaml.safe_load(t); pickle.dumps(1)"))
