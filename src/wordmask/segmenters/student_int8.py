"""Students in int8: their convolutions rounded on drawn pictures, and whether they say the same in it."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from wordmask.console.progress import progress_bar
from wordmask.encoders.inference import for_inference
from wordmask.encoders.int8_agreement import PREPARING, SIDE, Agreement, leaves, same_directions
from wordmask.encoders.int8_blocks import NoInt8Error
from wordmask.encoders.int8_convolutions import Int8Convolution, eligible, in_int8
from wordmask.encoders.int8_rounding import to_nearest
from wordmask.segmenters.deeplab import DeepLabV3Plus
from wordmask.segmenters.student_file import StudentNetwork
from wordmask.weights.loading import fingerprint

PICTURES = 4
"""That layers are rounded by."""
LEAST_LABELS = 0.99
"""Of the places of drawn pictures must keep their label, on average over the labels that are there."""
LEAST_SHARE = 0.01
"""Of all places, that a label must have to be counted."""

Made = Mapping[str, Int8Convolution]


class RoundedStudent:
    """What `int8_agreement.compute_in_int8` asks of a student."""

    def __init__(
        self,
        network: StudentNetwork,
        logits: Callable[[Tensor], Tensor],
        place: Callable[[Made | None], None],
        *,
        has_labels: bool,
    ):
        """logits: of pictures (B, 3, H, W) in [0, 1], (B, classes, h, w), in what was placed last; None is single
        precision. has_labels: its classes are names; else they are directions of a space.
        """
        self.network, self.place, self.has_labels = _convolutional(network), place, has_labels
        self._logits = logits
        self.what = f"student {network.title}"
        self.fingerprint = f"{fingerprint(self.network)} {self.network.settings!r} {has_labels}"

    def features(self, pictures: Tensor) -> Sequence[Tensor]:
        return [self._logits(pictures).flatten(2).transpose(1, 2)]

    def make(self) -> Made:
        plain, run = for_inference(self.network, DeepLabV3Plus.features, packed=False), DeepLabV3Plus.features
        pictures = self.network.statistics.normalise(leaves(PICTURES, SIDE, seed=1))
        total = len(eligible(plain, run, pictures[:1]))
        with progress_bar(PREPARING.format(self.what), total, counts=False) as report:
            return in_int8(plain, run, pictures, report=report)

    def tensors(self, made: Made) -> dict[str, Tensor]:
        return {f"{name}.{part}": value for name, own in made.items() for part, value in vars(own).items()}

    def read(self, tensors: Mapping[str, Tensor]) -> Made:
        names = {name.rpartition(".")[0] for name in tensors}
        try:
            modules = {name: self.network.get_submodule(name) for name in sorted(names)}
        except AttributeError as error:
            raise KeyError(str(error)) from error
        return {name: Int8Convolution.among(tensors, name, module) for name, module in modules.items()}  # type: ignore[arg-type]

    def use(self, made: Made) -> None:
        self.place(made)

    def judge(self, exact: Sequence[Tensor], found: Sequence[Tensor]) -> Agreement:
        (one,), (other,) = exact, found
        if self.has_labels:
            labels, others = one.argmax(dim=-1), other.argmax(dim=-1)
            known, counts = labels.unique(return_counts=True)
            known = known[counts >= LEAST_SHARE * labels.numel()]
            if len(known) > 1:  # that one label stays says nothing
                same = [(others[labels == label] == label).float().mean().item() for label in known]
                return Agreement(self.what, sum(same) / len(same), LEAST_LABELS)
        return Agreement(self.what, same_directions(one, other))


def roughly_in_int8(network: StudentNetwork, images: Tensor) -> Made:
    """Return a student's convolutions in int8, as fast to make as they compute: to time them."""
    plain = for_inference(_convolutional(network), DeepLabV3Plus.features, packed=False)
    return in_int8(plain, DeepLabV3Plus.features, images, rounding=to_nearest)


def _convolutional(network: StudentNetwork) -> DeepLabV3Plus:
    if not isinstance(network, DeepLabV3Plus):
        raise NoInt8Error("a head on frozen encoders has no int8 form: choose auto, fp32 or bf16")
    if next(network.parameters()).device.type != "cpu":
        raise NoInt8Error("students compute in int8 on processors alone: choose auto, fp32 or bf16")
    return network
