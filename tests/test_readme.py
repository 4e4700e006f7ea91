"""The README does what it says: its code runs, its files exist, its test command is the one that CI runs."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_example_runs_and_gives_the_shapes_that_it_names(capsys):
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]  # the other one: test_fine_tuning_guide.py
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["logits"].shape == (3, 1, 10)
    shape, mass = capsys.readouterr().out.splitlines()
    assert shape == "torch.Size([3, 32, 8, 8])"
    assert re.search(r"tensor\(\[0\.\d+, 0\.0000, 0\.\d+\]\)", mass)


def test_the_tree_names_every_part_of_the_library():
    tree = README.split("## What is where")[1].split("```")[1]
    for part in (ROOT / "perceiver").iterdir():
        if not part.name.startswith("_") and part.name != "py.typed":
            assert (f"{part.name}/" if part.is_dir() else part.name) in tree


def test_ci_runs_the_test_command_of_the_readme():
    assert re.search(r"<!-- tests -->\n```bash\n[^\n]+\n```", README)
    assert "<!-- tests -->" in (ROOT / ".ci/run").read_text()
