"""The best score that a model without some modality could reach, by enumerating all digits: `python data/quickstart/ceilings.py`.

Whoever cannot see the question knows no more than that the four kinds come equally often. Such a model answers what is
most likely over all kinds, so its best score is one for the four together.
"""

from collections import Counter
from fractions import Fraction
from itertools import combinations, product

from perceiver.data.quickstart import KINDS, answer

MODALITIES = ("image", "audio", "text")


def probability(kind: str, written: int, spoken: int) -> Fraction:
    """How often a pair of digits comes with a kind of question: evenly, but asked whether they are the same, half of the pairs are."""
    if kind != "same":
        return Fraction(1, 100)
    return Fraction(1, 20) if written == spoken else Fraction(1, 180)


def ceiling(known: tuple[str, ...]) -> dict[str, Fraction]:
    """The best accuracy by kind, and for all, of whoever knows these modalities and nothing else."""
    by_view: dict[tuple[object, ...], Counter[tuple[str, str]]] = {}
    for kind, written, spoken in product(KINDS, range(10), range(10)):
        view = tuple(value for name, value in zip(MODALITIES, (written, spoken, kind), strict=True) if name in known)
        by_view.setdefault(view, Counter())[kind, answer(kind, written, spoken)] += probability(kind, written, spoken) / len(KINDS)
    scores = dict.fromkeys((*KINDS, "all"), Fraction(0))
    for chances in by_view.values():
        answers: Counter[str] = Counter()
        for (_, said), chance in chances.items():
            answers[said] += chance
        best = answers.most_common(1)[0][0]
        for (kind, said), chance in chances.items():
            if said == best:
                scores[kind] += chance * len(KINDS)
                scores["all"] += chance
    return scores


def table() -> list[str]:
    """Rows of a Markdown table: what is known, the best accuracy for each kind, and for all kinds together."""
    rows = []
    for count in (3, 2, 1):
        for known in combinations(MODALITIES, count):
            scores = ceiling(known)
            cells = [f"{100 * float(scores[kind]):.1f}" if "text" in known else "" for kind in KINDS]
            rows.append(f"| {', '.join(known)} | {' | '.join(cells)} | {100 * float(scores['all']):.1f} |")
    return rows


if __name__ == "__main__":
    print("\n".join(table()))
