"""Generated scenes: data for a first training without any download.

Coins, pebbles, cups and photographic prints, cut out of the photographs that the scikit-image wheel ships, lie on
surfaces from the same place with shadows, overlaps, a camera's tilt, light, noise and JPEG artefacts. Masks are exact:
what is visible of each object, by construction. The files below hold, in the order of use: the photographs and their
licences, the cut-outs, the surfaces, the composition, the data set and the video. No torch anywhere.
"""

from edge_mrcnn.data.scenes.cutouts import CLASSES
from edge_mrcnn.data.scenes.dataset import Example, encode_jpeg, make_calibration_set, make_dataset, make_example
from edge_mrcnn.data.scenes.video import render_video

__all__ = ["CLASSES", "Example", "encode_jpeg", "make_calibration_set", "make_dataset", "make_example", "render_video"]
