"""A parser whose errors are one line."""

from argparse import ArgumentParser
from typing import NoReturn


class Parser(ArgumentParser):
    """Raises what argparse would print and exit with."""

    def error(self, message: str) -> NoReturn:
        """Raises it.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.prog}: {message}; see {self.prog} --help")
