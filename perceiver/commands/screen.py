"""Where commands print to."""

from rich.console import Console

WIDTH = 150  # columns, where the terminal does not say


def screen() -> Console:
    """The terminal; where there is none, such as in a file, lines of 150 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)
