"""Commands of `perceiver` beside training and testing: each is one file with one function, from the words behind its name to what it prints."""

from collections.abc import Callable

from perceiver.commands.cost import cost
from perceiver.commands.explain import explain

COMMANDS: dict[str, Callable[[list[str]], None]] = {"cost": cost, "explain": explain}
