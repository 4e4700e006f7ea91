"""The report page: one HTML file that shows how a model combined its modalities, and whether its attention is believable.

The page is a template beside this module with the payload inside, as JSON. It loads nothing, so it can be opened from disk,
mailed or published as it is. A payload has these keys:

    title, subtitle     what was trained, and a line on when and with which command.
    modalities          list of {"name", "view"}, in order; a view is "picture", "sound", "text" or "tokens".
    layers              names of the cross-attend layers, in order.
    datasets            names of the kinds of question, in order.
    accuracy            {dataset: share of right answers}.
    accuracy_without    {modality: {dataset: the same when that modality is taken away}}.
    mass                {modality: {dataset: mean attention mass over the layers}}.
    token_share         {modality: {dataset: share of the tokens}}, the mass under uniform attention.
    baselines           {name: {dataset: accuracy}} of simpler models; may be empty.
    remarks             sentences about where mass and the loss from removal agree, and where they do not.
    samples             list of samples; may be empty.

A sample has:

    dataset, expected   kind of question, and the right answer.
    answer, probability the answer of the model, and its probability.
    top                 list of [answer, probability], most likely first.
    without             {modality: {"answer", "probability"}} when that modality is taken away.
    inputs              {modality: input}; a modality that the sample does not have is left out.
    attention           {layer: {modality: weights}}, means over heads and latents; all weights of a layer sum to 1.
    mass                {layer: {modality: sum of its weights}}.

Inputs and weights depend on the view, and every grid spreads evenly over what it covers:

    picture             {"rows", "columns", "pixels"}: a grid of numbers from 0 (paper) to 1 (ink), or of [red, green, blue];
                        weights are a grid of rows and columns, usually coarser.
    sound               {"seconds", "spectrogram", "wav"}: one list of mel bands a frame, low to high, from 0 to 1, and a data URI;
                        weights are a grid of time and pitch, maybe only one pitch.
    text                {"characters"}: one string a byte; one weight a byte.
    tokens              {"labels"}: one string a token, or {} for numbers; one weight a token.
"""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

PLACEHOLDER = "__PAYLOAD__"


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
    template = resources.files("perceiver").joinpath("explain", "page.html").read_text(encoding="utf-8")
    path.write_text(template.replace(PLACEHOLDER, text), encoding="utf-8")
