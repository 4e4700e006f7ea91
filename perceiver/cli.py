"""The command line: `perceiver fit|validate|test|predict --config FILE`, and the same from `train.py`; beside them `perceiver cost CONFIG`
and `perceiver explain RUN_DIR`.

Training and testing are Lightning's (`perceiver.lightning_cli`); what else there is stands in `perceiver.commands`.
"""

import logging
import os
import sys
import warnings
from argparse import ArgumentError
from typing import Any

from lightning.pytorch.utilities.exceptions import SIGTERMException

from perceiver.commands import COMMANDS
from perceiver.guards import EXIT_PREEMPTED, Preempted
from perceiver.guards.explained import is_explained
from perceiver.lightning_cli import PerceiverCLI
from perceiver.reason import reason

__all__ = ["PerceiverCLI", "main", "quieten", "reason"]


def quieten() -> None:
    """Silences what Lightning says to its own developers, and what it advises to people with more than two cores."""
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch\.cli")
    for message in (
        ".*treespec, LeafSpec.*",
        ".*does not have many workers.*",
        "Checkpoint directory .* exists and is not empty",
        "Be aware that when using `ckpt_path`, callbacks",
    ):
        warnings.filterwarnings("ignore", message=message)
    tips = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    tips.addFilter(lambda record: "Tip:" not in record.getMessage())


def run(args: Any) -> None:
    """Runs the command that the first word names, or else Lightning's command line."""
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list) and words and words[0] in COMMANDS:
        COMMANDS[words[0]](words[1:])
    else:
        PerceiverCLI(args)


def main(args: Any = None) -> int:
    """Runs the command line.

    A refused input, and what stops a training, is one line on stderr and exit code 2; set PERCEIVER_TRACEBACK=1 to see where it was raised. A
    training that was asked to end (SIGTERM) has saved itself, and the exit code is 75.
    """
    quieten()
    if os.environ.get("PERCEIVER_TRACEBACK"):
        run(args)
        return 0
    try:
        run(args)
    except Preempted as ended:
        print(ended, file=sys.stderr)
        return int(str(ended.code))
    except SIGTERMException:  # while Lightning looks whether a validation works, or tests what was trained
        print("asked to end (SIGTERM) outside of training: start it again, by --ckpt_path if there is a checkpoint", file=sys.stderr)
        return EXIT_PREEMPTED
    except RuntimeError as error:
        if not is_explained(error):
            raise
        print(f"error: {reason(error)}", file=sys.stderr)
        return 2
    except (ArgumentError, ValueError, OSError, MemoryError) as error:
        print(f"error: {reason(error)}", file=sys.stderr)
        return 2
    return 0
