"""Mutations: what disks, networks and editors do to files, and what people write into them."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

EDGES = (0, 1, 2, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS_OF_YAML = (
    ":",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "#",
    "&x ",
    "*x ",
    "*image",
    "<<: ",
    "!!python/name:os.system ",
    "|",
    "\t",
    '"',
    "null",
    "\0",
    "\ufeff",
    "s",
)
Place = tuple[Any, ...]


@st.composite
def mutated(draw: DrawFn, content: bytes, *, within: int | None = None, tokens: Sequence[bytes] = (b"",), most: int = 3) -> bytes:
    """A content after a few mutations.

    Args:
        content: what was written.
        within: so many bytes at its beginning are changed; all when not given.
        tokens: what may be put in.
        most: of mutations.
    """
    found = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        last = max(0, min(len(found), within or len(found)) - 1)
        at = draw(st.integers(0, last))
        span = min(draw(st.integers(1, 9)), len(found) - at)
        match draw(st.sampled_from(["flip", "byte", "number", "drop", "repeat", "exchange", "insert", "token", "cut"])):
            case "flip" if found:
                found[at] ^= 1 << draw(st.integers(0, 7))
            case "byte" if found:
                found[at] = draw(st.integers(0, 255))
            case "number":
                size, order = draw(st.sampled_from([1, 2, 4, 8])), draw(st.sampled_from(["little", "big"]))
                found[at : at + size] = (draw(st.sampled_from(EDGES)) % 256**size).to_bytes(size, order)
            case "drop":
                del found[at : at + span]
            case "repeat":
                found[at:at] = found[at : at + span] * draw(st.integers(1, 3))
            case "exchange":
                other = draw(st.integers(0, last))
                found[at : at + span], found[other : other + span] = found[other : other + span], found[at : at + span]
            case "insert":
                found[at:at] = draw(st.binary(min_size=1, max_size=5))
            case "token":
                found[at:at] = draw(st.sampled_from(tokens))
            case "cut":
                del found[draw(st.integers(0, len(found))) :]
    return bytes(found)


def put(file: Path, content: bytes) -> Path:
    """Writes a file anew: when one is written over that is there, file systems wait for the disk."""
    file.unlink(missing_ok=True)
    file.write_bytes(content)
    return file


def places(tree: Any, path: Place = ()) -> list[Place]:
    """The paths to all that is in a tree of dicts and lists, outer ones first."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, item in items for place in places(item, (*path, key)))]


def at(tree: Any, path: Place) -> Any:
    """What stands in a place."""
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def altered(draw: DrawFn, tree: Any, odd: SearchStrategy[Any], *, names: Sequence[str] = (), most: int = 2) -> Any:
    """A tree of dicts and lists after a few mutations: something dropped, renamed, repeated, put elsewhere, or something odd in its place.

    Args:
        tree: stays as it is.
        odd: what may stand in a place of the tree.
        names: that keys may get.
        most: of mutations.
    """
    found = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places(found)[1:] or [()]))
        if not path:
            return copy.deepcopy(draw(odd))
        parent, key = at(found, path[:-1]), path[-1]
        match draw(st.sampled_from(["drop", "rename", "rename", "odd", "odd", "odd", "wrap", "repeat", "exchange", "elsewhere"])):
            case "drop":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from([*names, str(key)[:-1], f"{key}s", str(key).upper(), "", "ü", "*"]))] = parent.pop(key)
            case "odd":
                parent[key] = copy.deepcopy(draw(odd))
            case "wrap":
                parent[key] = draw(st.sampled_from([[parent[key]], {key: parent[key]}, {"class_path": parent[key]}, str(parent[key])]))
            case "repeat" if isinstance(parent, list):
                parent.insert(key, copy.deepcopy(parent[key]))
            case "exchange":
                other = draw(st.sampled_from(places(found)[1:]))
                parent[key] = copy.deepcopy(at(found, other))
            case "elsewhere" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["class_path", "init_args", "class", "args", "partial", "name", "$tensor", "$dict"]))] = parent.pop(key)
    return found


@st.composite
def miswritten(draw: DrawFn, text: str, *, most: int = 2) -> str:
    """A text of lines after a few slips of an editor. No digit is put in, so that no number grows.

    Args:
        text: what was written.
        most: of slips.
    """
    lines = text.splitlines()
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(lines) - 1))
        place = draw(st.integers(0, len(lines[at])))
        match draw(st.sampled_from(["drop", "repeat", "exchange", "indent", "outdent", "token", "token", "letters", "end"])):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "repeat":
                lines.insert(at, lines[at])
            case "exchange":
                other = draw(st.integers(0, len(lines) - 1))
                lines[at], lines[other] = lines[other], lines[at]
            case "indent":
                lines[at] = draw(st.sampled_from([" ", "  ", "\t"])) + lines[at]
            case "outdent":
                lines[at] = lines[at][draw(st.integers(1, 2)) :]
            case "token":
                lines[at] = lines[at][:place] + draw(st.sampled_from(TOKENS_OF_YAML)) + lines[at][place:]
            case "letters":
                lines[at] = lines[at][:place] + lines[at][place + draw(st.integers(1, 3)) :]
            case "end":
                lines[at:] = [lines[at][:place]]
    return "\n".join(lines)


WORDS = (
    "",
    " ",
    "null",
    "true",
    "nan",
    "inf",
    "-1",
    "0x10",
    "1e999",
    "$tensor",
    "../../etc/passwd",
    "a\0b",
    "\ud800",
    "ü" * 300,
    "*",
    "&x",
    "{",
    "%s",
)

odd_scalars: SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([-(2**63), 10**400, 0.0, -0.5, 1.5, float("nan"), float("inf"), float("-inf")]),
    st.sampled_from(WORDS),
    st.text(max_size=6),
)
odd_values: SearchStrategy[Any] = st.recursive(
    odd_scalars,
    lambda inside: st.one_of(
        st.lists(inside, max_size=3), st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=4)), inside, max_size=2)
    ),
    max_leaves=4,
)
