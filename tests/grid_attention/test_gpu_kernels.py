"""The kernels for GPUs, on a CPU: Triton's interpreter runs them in a process of its own, since it must be asked for before they are imported."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# With a newer NumPy than it knows, the interpreter of Triton 3.6 cannot read a bound of a loop: an array of one number is no index there.
PRELUDE = """
import json, sys, torch
from triton.runtime import interpreter
patch = interpreter._patch_lang_tensor
def patched(tensor, scope):
    patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())
interpreter._patch_lang_tensor = patched
from perceiver.grid_attention import gpu, tiles
from perceiver.grid_attention.parts import NEVER
torch.manual_seed(0)

def arrays(b, n, r, q, c, share):
    draw = [torch.randn(shape, dtype=torch.float64) for shape in ((b, n, c), (b, n, r), (b, n, q), (b, c, r * q))]
    bias = torch.where(torch.rand(b, r * q) < share, 0.0, NEVER).double() if share < 1 else None
    return [*draw, torch.rand(b, r * q, dtype=torch.float64) + 0.5, bias]

def single(given):
    return [None if t is None else t.float() for t in given]

def distances(found, expected):
    assert all(ours.shape == theirs.shape for ours, theirs in zip(found, expected, strict=True))
    return [float((ours - theirs).norm() / theirs.norm().clamp_min(1e-3)) for ours, theirs in zip(found, expected, strict=True)]
"""


def interpreted(script: str) -> list[float]:
    """What a script prints, a list of numbers, in a process in which kernels are interpreted."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PRELUDE + script], env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


SIZES = {
    "one channel, more columns than a strip": (1, 5, 7, 131, 1, 1.0),
    "three channels, more queries than a block": (2, 137, 3, 29, 3, 0.7),
    "channels that leave no room for one of ones": (1, 17, 3, 71, 16, 0.6),
    "channels that fill no power of two": (2, 67, 5, 7, 19, 0.9),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_sums_and_gradients_are_those_of_tiles_in_double_precision(sizes):
    distances = interpreted(f"""
given = arrays{sizes}
expected, found = tiles.forward(*given), gpu.forward(*single(given))
gradients = [torch.randn_like(t) for t in expected]
delta = sum((g * t).sum(-1) for g, t in zip(gradients[1:], expected[1:])) - gradients[0]
rest = (expected[0], delta, gradients[1:])
back = gpu.backward(single(given), rest[0].float(), delta.float(), single(gradients[1:]), True, True)
print(json.dumps(distances([*found, *back], [*expected, *tiles.backward(given, *rest, True, True)])))
""")
    assert len(distances) == 9 and max(distances) < 1e-5


@pytest.mark.parametrize("channels", [3, 7])
def test_scores_that_grow_along_the_grid_are_weighed_against_the_greatest(channels):
    """Each row is far above all that came before it, so that what was found so far must be made smaller again and again."""
    found = interpreted(f"""
given = arrays(1, 5, 41, 17, {channels}, 1.0)
given[1] = torch.linspace(0, 2000, 41).expand(1, 5, -1).double().contiguous()
print(json.dumps(distances(gpu.forward(*single(given)), tiles.forward(*given))))
""")
    assert max(found) < 1e-4


@pytest.mark.parametrize("channels", [2, 5])
def test_strips_one_above_the_other_give_what_one_gives(channels):
    """As many as a device has processors for; rows that are first hidden make a strip start from nothing."""
    found = interpreted(f"""
given = arrays(2, 5, 13, 23, {channels}, 0.8)
given[5][0, : 4 * 23] = NEVER
gpu.ENOUGH = 7
print(json.dumps(distances(gpu.forward(*single(given)), tiles.forward(*given))))
""")
    assert max(found) < 1e-5


@pytest.mark.parametrize("channels", [2, 5])
def test_only_the_gradients_that_are_asked_for_are_computed(channels):
    unasked, differences = interpreted(f"""
given = single(arrays(1, 5, 3, 7, {channels}, 1.0))
lse, *sums = gpu.forward(*given)
none, inv, both = [gpu.backward(given, lse, torch.zeros_like(lse), sums, *wants) for wants in ((False, False), (False, True), (True, True))]
unasked = sum(t.abs().sum() for t in (none[3], none[4], inv[3]))
print(json.dumps([float(unasked), sum(distances([*none[:3], *inv[:3], inv[4]], [*both[:3] * 2, both[4]]))]))
""")
    assert unasked == 0 and differences < 1e-6
