"""Pictures for the published classifiers: the middle of each, 224 x 224 pixels, standardised with ImageNet's mean and deviation.

Letters: c colours, y x rows and columns, b pictures.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from perceiver.adapters.image_map import IMAGENET_MEAN, IMAGENET_STD

SIZE, SHARE = 224, 224 / 256  # of the shorter side


def picture_entries(pictures: Sequence[UInt8[Tensor, "3 _ _"]], *, semantics: str = "hf") -> dict[str, Float[Tensor, "b 3 224 224"]]:
    """`image` for `perceiver.models.classifier.Classifier` with published weights.

    Args:
        pictures: bytes 0 to 255, each of any size.
        semantics: transformers (`hf`) smooths a picture before it is made smaller, DeepMind (`deepmind`) did not; they also round the place of
            the crop differently.

    Raises:
        ValueError: when a picture is not of three colours in bytes, or semantics are not known.
    """
    from torchvision.transforms.v2 import functional as tv

    if semantics not in ("hf", "deepmind"):
        raise ValueError(f"semantics={semantics!r}: choose one of hf, deepmind")
    found = []
    for number, picture in enumerate(pictures):
        if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) != 3:
            raise ValueError(f"picture {number} is {picture.dtype} of {tuple(picture.shape)}: give bytes of (3, rows, columns)")
        rows, columns = picture.shape[1:]
        side = int(SHARE * min(rows, columns))
        if semantics == "hf":
            middle = tv.center_crop(picture, [side, side])
        else:
            middle = tv.crop(picture, (rows - side + 1) // 2, (columns - side + 1) // 2, side, side)
        found.append(tv.resize(middle, [SIZE, SIZE], tv.InterpolationMode.BICUBIC, antialias=semantics == "hf"))
    pixels = torch.stack(found) / 255
    return {"image": (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]}
