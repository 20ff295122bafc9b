"""The photographs for scenes: files inside the scikit-image wheel, so nothing is downloaded.

Only photographs with clearly free licences (public domain, CC0, "no known copyright restrictions", as stated by
`skimage.data`) are used; for the wheel's moon, page and motorcycle nothing is stated.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from runtimes.errors import MissingExtraError, MissingFileError


@dataclass(frozen=True)
class Photograph:
    """One file of the wheel, with its origin."""

    file: str
    """Name inside skimage/data."""
    source: str
    """Author or publisher."""
    licence: str
    """Licence as stated by `skimage.data`."""


PHOTOGRAPHS = {
    "astronaut": Photograph("astronaut.png", "NASA, Eileen Collins", "public domain"),
    "brick": Photograph("brick.png", "CC0Textures, Bricks25", "CC0"),
    "camera": Photograph("camera.png", "Lav Varshney", "CC0"),
    "chelsea": Photograph("chelsea.png", "Stefan van der Walt", "CC0"),
    "clock": Photograph("clock_motion.png", "Stefan van der Walt", "public domain"),
    "coffee": Photograph("coffee.png", "Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    "coins": Photograph("coins.png", "Brooklyn Museum, Greek coins from Pompeii", "no known copyright restrictions"),
    "grass": Photograph("grass.png", "linolafett on DeviantArt, Grass 01", "CC0"),
    "gravel": Photograph("gravel.png", "CC0Textures, Gravel04", "CC0"),
    "hubble": Photograph("hubble_deep_field.jpg", "NASA, Hubble eXtreme Deep Field", "public domain"),
    "ihc": Photograph("ihc.png", "CMMI, stained tissue", "no known copyright restrictions"),
    "retina": Photograph("retina.jpg", "Mikael Haggstrom, WikiJournal of Medicine", "CC0"),
    "rocket": Photograph("rocket.jpg", "SpaceX, DSCOVR on Falcon 9", "public domain"),
    "text": Photograph("text.png", "Wikipedia, Corner.png", "public domain"),
}


@functools.cache
def read_photograph(name: str) -> np.ndarray:
    """Read one of `PHOTOGRAPHS`; callers share the array and must not write to it.

    Returns:
        (H, W, 3) uint8 RGB; a grey photograph has three equal channels.

    Raises:
        MissingExtraError: If scikit-image is not installed.
        MissingFileError: If this scikit-image does not include the file.
    """
    path = _data_folder() / PHOTOGRAPHS[name].file
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise MissingFileError(f"{path}: expected in the scikit-image wheel; pip install 'scikit-image>=0.24'")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    image.flags.writeable = False
    return image


def _data_folder() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise MissingExtraError("generated scenes need scikit-image: pip install 'edge-mrcnn[demo]'")
    return Path(spec.origin).parent / "data"
