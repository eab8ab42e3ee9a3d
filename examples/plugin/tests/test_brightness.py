"""What the package promises: darkest first, background in between."""

import numpy as np
from wordmask_brightness.brightness import Brightness, BrightnessSettings


def test_names_go_from_dark_to_bright_and_background_lies_between():
    image = np.repeat(np.array([[0, 127, 255]], dtype=np.uint8)[..., None], 3, axis=2)  # black, grey, white
    result = Brightness(BrightnessSettings(contrast=0.1)).segment(image, ["shadow", "snow"])
    assert result.names == ["shadow", "snow", "background"]
    assert result.labels.tolist() == [[0, 2, 1]]
