"""Which networks a method answers with, told by their values: a file may be trained anew under its old name."""

from torch import nn

from wordmask.fingerprints import short_digest_of
from wordmask.methods import Declared
from wordmask.weights.loading import fingerprint


def networks_fingerprint(method: Declared) -> str | None:
    """Return one hash of all the networks that a segmenter or a saliency method holds; None if it holds none."""
    found = [fingerprint(network) for network in networks_of(method)]
    return short_digest_of(" ".join(found)) if found else None


def networks_of(method: Declared) -> list[nn.Module]:
    """Return the networks that a method declares, each once and as a whole."""
    found = {id(network): network for network in method.networks.values()}
    inner = {id(part) for network in found.values() for part in network.modules() if part is not network}
    return [network for key, network in found.items() if key not in inner]
