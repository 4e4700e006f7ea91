"""The measures of some answers: how many are right, and does the model know which? Accuracy, NLL and ECE always stand together.

ECE alone misleads: it gets better when a model forgets all and says how common each class is.

Letters: n rows, k classes.
"""

from collections.abc import Mapping
from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor

from perceiver.explain.calibration.error import BINS, brier, calibration_error, confidence, equal_mass, equal_width, error_by_chance, surplus
from perceiver.explain.calibration.selective import aurc
from perceiver.explain.calibration.temperature import HIGH, LOW, fit_temperature, scaled
from perceiver.explain.measure import FEW_ROWS, Measure, Verdict, bootstrap, not_applicable
from perceiver.explain.right import by_chance, class_shares, log_likelihood, majority, right
from perceiver.explain.wording import few, side

ACCURACY, NLL, ECE, ADAPTIVE, BRIER, AURC, TEMPERATURE = "accuracy", "NLL", "ECE", "adaptive ECE", "Brier score", "AURC", "temperature"
ALL = (ACCURACY, NLL, ECE, ADAPTIVE, BRIER, AURC)
MATERIAL = 0.02  # calibration errors that exceed chance by less are not worth a warning, however many rows prove them
MANY = 1000
FITS = 100  # draws of the temperature's interval, each of which is a fit


def measures(
    log_probabilities: Float[Tensor, "n k"], target: Int[Tensor, " n"], *, of: Mapping[str, str], temperature: float | None = None
) -> list[Measure]:
    """Accuracy, NLL, ECE, adaptive ECE, Brier score and AURC of some answers. They cost nothing beyond the answers.

    Args:
        log_probabilities: the answers.
        target: the right classes.
        of: what the measures are of.
        temperature: fitted on other rows; with it, each has the same figure after it for reference.
    """
    if not len(target):
        return [not_applicable(name, "there are no rows", of=of) for name in ALL]
    later = None if temperature is None else scaled(log_probabilities, temperature)
    hits = right(log_probabilities, target)
    found = [_accuracy(log_probabilities, target, of), _nll(log_probabilities, later, target, of)]
    found += [_ece(name, log_probabilities, later, target, of) for name in (ECE, ADAPTIVE)]
    return [*found, _brier(log_probabilities, later, target, of), _aurc(confidence(log_probabilities), hits, later, of)]


def temperature_measure(validation: tuple[Float[Tensor, "n k"], Int[Tensor, " n"]] | None, of: Mapping[str, str]) -> Measure:
    """The temperature of validation rows, and how sure it is. Rows of no class that the model knows are left aside, which is said.

    Args:
        validation: answers and right classes, -1 for a row without one; None where there are no such rows.
        of: what it is of.
    """
    if validation is None or not len(validation[1]):
        return not_applicable(TEMPERATURE, "no validation rows are given, and it must never be fitted to the rows that are reported on", of=of)
    answers, target = validation
    known = (target >= 0) & (target < answers.shape[1])
    aside = f"{int((~known).sum())} of {len(known)} validation rows have no class that the model knows (0 to {answers.shape[1] - 1})"
    if not known.any():
        return not_applicable(TEMPERATURE, f"{aside}, so there is nothing to fit it to", n=len(known), of=of)
    answers, target = answers[known], target[known]
    value = fit_temperature(answers, target)
    together = torch.cat([answers.double(), target[:, None].double()], 1)
    interval = bootstrap(together, lambda rows: torch.tensor(fit_temperature(rows[:, :-1], rows[:, -1].long())), draws=FITS)
    if interval is None:
        said = few(len(target))
    elif value < 1.01 * LOW or value > 0.99 * HIGH:
        said = f"at the limit of {LOW} to {HIGH}: no temperature makes these validation rows likeliest, as when all or none of them are right"
    elif interval[0] > 1:
        said = f"too sure: scores had better be divided by {value:.2f}"
    elif interval[1] < 1:
        said = f"not sure enough: scores had better be divided by {value:.2f}"
    else:
        said = "not distinguishable from 1: scores may stay as they are"
    if not known.all():
        said += f"; {aside}, and are left aside"
    return Measure(TEMPERATURE, value, len(target), interval, {"as it is": 1.0}, "ok", said, of)


def _after(value: float | None) -> dict[str, float]:
    return {} if value is None else {"after temperature": value}


def _accuracy(answers: Tensor, target: Tensor, of: Mapping[str, str]) -> Measure:
    hits = right(answers, target)
    common, interval = majority(target, answers.shape[1]), bootstrap(hits)
    beats = bootstrap(hits - common)
    verdict: Verdict = "ok"
    if beats is None:
        said = few(len(hits))
    elif common == 1:
        said = "all rows are of one class, so there is nothing to tell apart"
    elif side(beats) > 0:
        said = "more than for always the commonest class"
    else:
        verdict = "warning"
        said = f"{'less than' if side(beats) < 0 else 'not distinguishable from'} always naming the commonest class"
    if unseen := int((class_shares(target, answers.shape[1]) == 0).sum()):
        said += f"; {unseen} of {answers.shape[1]} classes are never asked for here"
    return Measure(ACCURACY, float(hits.mean()), len(hits), interval, by_chance(answers, target), verdict, said, of)


def _against_shares(name: str, losses: Tensor, shares: float, reference: dict[str, float], of: Mapping[str, str]) -> Measure:
    """A loss, which is to be lower than that of answering each row with how common each class is."""
    interval, beyond = bootstrap(losses), bootstrap(losses - shares)
    verdict: Verdict = "ok"
    if beyond is None:
        said = few(len(losses))
    elif shares == 0:
        said = "all rows are of one class, so there is nothing to compare it with"
    elif side(beyond) < 0:
        said = "less than for answering with how common each class is"
    else:
        verdict = "warning"
        said = f"{'more than' if side(beyond) > 0 else 'not distinguishable from'} answering each row with how common each class is"
    return Measure(name, float(losses.mean()), len(losses), interval, reference | {"class shares": shares}, verdict, said, of)


def _nll(answers: Tensor, later: Tensor | None, target: Tensor, of: Mapping[str, str]) -> Measure:
    losses = -log_likelihood(answers, target)
    shares = class_shares(target, answers.shape[1])
    entropy = float(torch.special.entr(shares).sum())
    after = None if later is None else float(-log_likelihood(later, target).mean())
    return _against_shares(NLL, losses, entropy, {"chance": log(answers.shape[1])} | _after(after), of)


def _brier(answers: Tensor, later: Tensor | None, target: Tensor, of: Mapping[str, str]) -> Measure:
    losses = brier(answers, target)
    shares = class_shares(target, answers.shape[1])
    after = None if later is None else float(brier(later, target).mean())
    return _against_shares(BRIER, losses, float(1 - shares.square().sum()), {"chance": 1 - 1 / answers.shape[1]} | _after(after), of)


def _ece(name: str, answers: Tensor, later: Tensor | None, target: Tensor, of: Mapping[str, str]) -> Measure:
    """Beside it stand accuracy and NLL, and what it would be by chance if the model were calibrated.

    Resampling adds noise to each bin, and absolute values only ever add up: draws are larger than the error itself. So the interval is that of draws
    less their bias (Efron and Tibshirani 1993, chapter 10), from 0 on, and holds the error.
    """
    into = equal_width if name == ECE else equal_mass
    hits, sure = right(answers, target), confidence(answers)
    value = float(calibration_error(sure, hits, into(sure)))
    interval = bootstrap(surplus(sure, hits, into(sure)), lambda rows: rows.mean(0).abs().sum(), about=value)
    if interval is not None:
        interval = max(0.0, min(interval[0], value)), max(interval[1], value)
    null = error_by_chance(sure, into(sure))
    middle, low, high = torch.quantile(null, torch.tensor([0.5, 0.025, 0.975], dtype=null.dtype)).tolist()
    reference = {"calibrated": middle, "calibrated, 2.5 %": low, "calibrated, 97.5 %": high}
    reference |= {"accuracy": float(hits.mean()), "confidence": float(sure.mean()), "NLL": float(-log_likelihood(answers, target).mean())}
    if later is not None:
        warm = confidence(later)
        reference |= _after(float(calibration_error(warm, hits, into(warm))))
    verdict: Verdict = "ok"
    if interval is None:
        said = few(len(hits))
    elif value <= high:
        said = "no more than a calibrated model would show by chance"
    elif value - middle < MATERIAL:
        said = "more than chance, and too little to matter"
    else:
        verdict = "warning"
        gap = float(sure.mean() - hits.mean())
        way = "surer than it is right" if gap > 0 else "less sure than it is right"
        said = f"on average {abs(round(100 * gap))} points {way}, and off by {round(100 * value)} points in {BINS} bins of confidence"
    if interval is not None and len(hits) < MANY:
        said += f"; with fewer than {MANY} rows its interval is wide"
    return Measure(name, value, len(hits), interval, reference, verdict, said, of)


def _aurc(sure: Tensor, hits: Tensor, later: Tensor | None, of: Mapping[str, str]) -> Measure:
    value, error = float(aurc(sure, hits)), float(1 - hits.mean())
    pair = torch.stack([sure, hits], 1)
    interval = bootstrap(pair, lambda rows: aurc(rows[:, 0], rows[:, 1]))
    gain = bootstrap(pair, lambda rows: 1 - rows[:, 1].mean() - aurc(rows[:, 0], rows[:, 1]))
    reference = {"random order": error, "best order": float(aurc(hits, hits))}
    if later is not None:
        reference |= _after(float(aurc(confidence(later), hits)))
    verdict: Verdict = "ok"
    if gain is None:
        said = few(len(hits))
    elif error in (0, 1):
        said = f"{'no' if error == 0 else 'every'} answer is wrong, so it does not matter which are given first"
    elif side(gain) > 0:
        said = "answers that it is surer of are wrong less often"
    elif (wrong := round(len(hits) * error)) < FEW_ROWS:  # a resample may have none of them
        said = f"{wrong} of the answers {'is' if wrong == 1 else 'are'} wrong, too few to say whether it is less sure of those"
    else:
        verdict = "warning"
        said = "how sure it is does not tell right answers from wrong ones"
    return Measure(AURC, value, len(hits), interval, reference, verdict, said, of)
