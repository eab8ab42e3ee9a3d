"""DeepLabV3+ with a ResNet-50 as the published NamedMask checkpoints hold it: every name and shape, and the forward
pass written out function by function from the state dict alone."""

import torch
import torch.nn.functional as F

BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
RATES = (12, 24, 36)


def published_shapes(classes):
    """name -> shape, in the order of the file; counters have the shape ()."""
    shapes = {}

    def conv(name, *shape):
        shapes[f"{name}.weight"] = shape

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    conv("backbone.conv1", 64, 3, 7, 7)
    norm("backbone.bn1", 64)
    inputs = 64
    for layer, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), start=1):
        for block in range(blocks):
            name = f"backbone.layer{layer}.{block}"
            conv(f"{name}.conv1", width, inputs, 1, 1)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3, 3)
            norm(f"{name}.bn2", width)
            conv(f"{name}.conv3", 4 * width, width, 1, 1)
            norm(f"{name}.bn3", 4 * width)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, inputs, 1, 1)
                norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    conv("classifier.project.0", 48, 256, 1, 1)
    norm("classifier.project.1", 48)
    conv("classifier.aspp.convs.0.0", 256, 2048, 1, 1)
    norm("classifier.aspp.convs.0.1", 256)
    for branch in (1, 2, 3):
        conv(f"classifier.aspp.convs.{branch}.0.body.0", 2048, 1, 3, 3)
        conv(f"classifier.aspp.convs.{branch}.0.body.1", 256, 2048, 1, 1)
        norm(f"classifier.aspp.convs.{branch}.1", 256)
    conv("classifier.aspp.convs.4.1", 256, 2048, 1, 1)
    norm("classifier.aspp.convs.4.2", 256)
    conv("classifier.aspp.project.0", 256, 5 * 256, 1, 1)
    norm("classifier.aspp.project.1", 256)
    conv("classifier.classifier.0.body.0", 304, 1, 3, 3)
    conv("classifier.classifier.0.body.1", 256, 304, 1, 1)
    norm("classifier.classifier.1", 256)
    conv("classifier.classifier.3", classes, 256, 1, 1)
    shapes["classifier.classifier.3.bias"] = (classes,)
    return shapes


def random_checkpoint(classes, seed=0):
    chance = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in published_shapes(classes).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(20_000)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            state[name] = 0.5 + torch.rand(shape, generator=chance)
        elif len(shape) == 4:
            state[name] = torch.randn(shape, generator=chance) * (1.5 / (shape[1] * shape[2] * shape[3])) ** 0.5
        else:
            state[name] = 0.2 * torch.randn(shape, generator=chance)
    return state


def forward(state, images):
    """Normalised pictures (B, 3, H, W) -> logits (B, classes, H, W), at output stride 8."""

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def norm(x, name):
        mean, variance, weight, bias = (
            state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def bilinear(x, size):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    def separable(x, name, dilation):
        channels = x.shape[1]
        return conv(conv(x, f"{name}.0", padding=dilation, dilation=dilation, groups=channels), f"{name}.1")

    x = norm(conv(images, "backbone.conv1", stride=2, padding=3), "backbone.bn1").relu()
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    # Strides of the last two layers become dilations: 2 in the third, 4 in the fourth, each from its second block on.
    for layer, blocks, stride, dilations in (
        (1, 3, 1, (1, 1)),
        (2, 4, 2, (1, 1)),
        (3, 6, 1, (1, 2)),
        (4, 3, 1, (2, 4)),
    ):
        for block in range(blocks):
            name = f"backbone.layer{layer}.{block}"
            step, dilation = (stride, dilations[0]) if block == 0 else (1, dilations[1])
            out = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
            out = norm(conv(out, f"{name}.conv2", stride=step, padding=dilation, dilation=dilation), f"{name}.bn2")
            out = norm(conv(out.relu(), f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = norm(conv(x, f"{name}.downsample.0", stride=step), f"{name}.downsample.1")
            x = (x + out).relu()
        if layer == 1:
            low = norm(conv(x, "classifier.project.0"), "classifier.project.1").relu()
    branches = [norm(conv(x, "classifier.aspp.convs.0.0"), "classifier.aspp.convs.0.1").relu()]
    for branch, rate in enumerate(RATES, start=1):
        name = f"classifier.aspp.convs.{branch}"
        branches.append(norm(separable(x, f"{name}.0.body", rate), f"{name}.1").relu())
    pooled = conv(x.mean(dim=(2, 3), keepdim=True), "classifier.aspp.convs.4.1")
    branches.append(norm(pooled, "classifier.aspp.convs.4.2").relu().expand(-1, -1, *x.shape[-2:]))
    pyramid = norm(conv(torch.cat(branches, dim=1), "classifier.aspp.project.0"), "classifier.aspp.project.1").relu()
    joined = torch.cat([low, bilinear(pyramid, low.shape[-2:])], dim=1)
    joined = norm(separable(joined, "classifier.classifier.0.body", 1), "classifier.classifier.1").relu()
    return bilinear(conv(joined, "classifier.classifier.3"), images.shape[-2:])
