"""The part of a page that a benchmark writes, between two marks."""


def filled(text: str, start: str, stop: str, content: str) -> str:
    """The page with that between its marks, in the place of what was there."""
    before, rest = text.split(start)
    return f"{before}{start}\n\n{content}\n\n{stop}{rest.split(stop)[1]}"
