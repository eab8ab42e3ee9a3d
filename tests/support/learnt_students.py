"""Students whose batch norms have seen something, and one of long blocks."""

import torch
from torch import nn

from wordmask.segmenters.deeplab import DeepLabSettings

LONG = DeepLabSettings(
    "resnet26",
    {"channels": (16, 16, 32, 32), "layers": (1, 1, 2, 1), "stem_width": 8},
    output_stride=8,
    rates=(2, 9),
    width=16,
    low_width=8,
)


def learnt(network):
    """A network whose batch norms have seen something."""
    dice = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
            ):
                values.uniform_(low, high, generator=dice)
    return network.eval()
