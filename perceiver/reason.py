"""The reason for an error, in the one line that a command line says."""

import re
from itertools import takewhile

from perceiver.pretrained.load_table import DoesNotFit


def reason(error: Exception) -> str:
    """What went wrong, in one line, out of a message that may hold all that was tried, all that was given, or a traceback.

    Weights that do not fit are the exception: their table is told, too.
    """
    if isinstance(error, DoesNotFit):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    told = list(takewhile(lambda line: not line.startswith(("- Expected a <class 'NoneType'>", "Given value")), lines)) or lines
    where = ".".join(re.findall(r'^(?:- )?Parser key "([^"]+)":$', "\n".join(told), re.MULTILINE))
    what = re.sub("^Call to compute_fn of link .*? failed: ", "", told[-1])
    if what.startswith('in "<unicode string>"'):  # the place of an error in YAML, whose text stands before it
        what = "; ".join(told).replace(' in "<unicode string>"', "").replace('in "<unicode string>"', "at")
    for prefix in ("- ", "ValueError: ", "FileNotFoundError: "):
        what = what.removeprefix(prefix)
    return f"{where}: {what}" if where else what
