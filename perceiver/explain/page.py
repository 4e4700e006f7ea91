"""The report page: one HTML file that shows how a model combined its modalities, and whether its attention is believable.

The page is a template beside this module with its style, its script and the payload inside, as JSON. It loads nothing, so it can be opened from disk,
mailed or published as it is. A payload has these keys; all but the first seven may be missing, and what shows them is then not
on the page:

    title, subtitle     what was trained, and a line on when and with which command.
    modalities          list of {"name", "view"}, in order; a view is "picture", "video", "sound", "wave", "text" or "tokens".
    layers              names of the layers that read the inputs, in order.
    datasets            names of the kinds of question, in order.
    accuracy            {dataset: share of right answers}.
    samples             list of samples; may be empty.
    remarks             sentences about where mass and the loss from removal agree, and where they do not.

    accuracy_without    {modality: {dataset: the same when that modality is taken away}}.
    mass                {modality: {dataset: mean attention mass over the layers}}.
    token_share         {modality: {dataset: share of the tokens}}, the mass under uniform attention.
    baselines           {name: {dataset: accuracy}} of simpler models.
    asked               what the model was asked, one sentence.
    belief              {"verdict", "sentence"}: may the picture of attention be believed?
    worth               {dataset: {modality: {"value", "interval"}}}: Shapley values of accuracy; interval is [low, high] or null.
    diagnoses           list of {"key", "title", "verdict", "sentence", "measures"}; a verdict is "ok", "warning" or "not applicable".
                        A measure is {"name", "of", "value", "n", "interval", "reference", "verdict", "reason", "seconds", "passes"}: `of` says
                        of what ({"dataset": "sum", "modality": "image", "layer": ...}); value is a number, or null where it does not
                        apply; interval is [low, high] or null; reference is {"random" | "uniform" | "shuffled" | "untrained" | ...: number};
                        reason is one sentence; seconds and passes (forward passes over the n rows) are what it cost.
    explanations        list of {"name", "label", "shown", "sentence"}: ways to say which pieces decided. Where `shown` is false it is no better
                        than random order: the page says the sentence in place of the map. `reasons` {dataset: sentence}, if there, says it
                        for those kinds of question that it is not shown for.
    ladder              {"sentence", "rows": [{"name", "parameters", "accuracy": {dataset: value}}]}: simpler models on the same budget, worst first;
                        the "full model" may be among them.
    cost                {"sentence", "tables": [{"title", "columns": [...], "rows": [[...]]}]}: tables of strings, the first string of a row names it.

A sample has:

    dataset, expected   kind of question, and the right answer: null where nobody said which it is, or "unknown" where that is none of the answers.
    answer, probability the answer of the model, and its probability.
    top                 list of [answer, probability], most likely first.
    without             {names: {"answer", "probability"}} when those modalities are taken away: one name, or several in the order of
                        `modalities` with "+" between. All sets that leave the sample something are there.
    inputs              {modality: input}; a modality that the sample does not have is left out.
    attention           {layer: {modality: [weights of head 1, of head 2, ...]}}, means over latents; all weights of a layer and head sum to 1.
    mass                {layer: {modality: sum of its weights, mean over heads}}.
    explanations        {name: {modality: weights}}, which may be negative (speaks against the answer); only of those that are shown.

Inputs and weights depend on the view, and every grid spreads evenly over what it covers:

    picture             {"rows", "columns", "channels", "bytes"}: base64 of rows x columns x channels bytes, 1 channel (0 paper, 255 ink) or 3
                        (red, green, blue); weights are a grid of rows and columns, usually coarser.
    video               the same with "frames", frames first; weights are a list of grids, one a stretch of frames, as many as there are
                        frames or fewer.
    sound               {"seconds", "rows", "columns", "bytes", "wav"}: a spectrogram of rows moments x columns mel bands (low to high), and
                        a data URI; weights are a grid of time and pitch, maybe only one pitch.
    wave                {"seconds", "low", "high", "wav"}: least and greatest sample of each of some stretches, in [-1, 1]; one weight a
                        stretch of time.
    text                {"characters"}: one string a byte; one weight a byte.
    tokens              {"labels"}: one string a token, or {} for numbers; one weight a token.
"""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

PLACEHOLDER = "__PAYLOAD__"
STYLE = ("page.css",)
SCRIPT = ("page_drawing.js", "page_first.js", "page_samples.js", "page_numbers.js", "page_controls.js")  # one script; the last one runs it


def write_page(payload: Mapping[str, Any], path: Path) -> None:
    """Writes the report page.

    `<` is written as `\\u003c`, so that no text of the payload can end the script it stands in.

    Args:
        payload: what the page shows, as this module describes it.
        path: of the file; an existing one is replaced.

    Raises:
        ValueError: when a number is NaN or infinite, which JSON cannot hold.
        TypeError: when a value has no JSON form.
    """
    text = json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    template = _parts("page.html").replace("__STYLE__", _parts(*STYLE)).replace("__SCRIPT__", _parts(*SCRIPT))
    path.write_text(template.replace(PLACEHOLDER, text), encoding="utf-8")


def _parts(*names: str) -> str:
    """Files beside this module, one after another."""
    folder = resources.files("perceiver").joinpath("explain")
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8").rstrip("\n") for name in names)
