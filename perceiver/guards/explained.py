"""Errors that are explained while they are under way.

A callback that raised another error in their place would break off what is still to be done: other callbacks would not save, loggers not finish, and
signal handlers not be put back.
"""


def explain(error: BaseException, told: str) -> None:
    """Puts what is known into an error, in place of what it said; its kind stays."""
    error.args = (told,)
    error.__dict__["explained"] = True


def is_explained(error: BaseException) -> bool:
    """Whether an error says all that there is to say, so that nobody needs to see where it was raised."""
    return "explained" in vars(error)
