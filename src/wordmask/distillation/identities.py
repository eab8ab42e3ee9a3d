"""What a run's networks are known by: files by their content, what is published by its name."""

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from wordmask.fingerprints import short_digest_of
from wordmask.segmenters.deeplab import BACKBONE
from wordmask.weights.addresses import file_at, fingerprint_of, folder_at, is_brought
from wordmask.weights.loading import WeightsError

ROLES = {"dinos": "dino"}
"""Settings that are not called as what they ask for."""


def weights_identity(weights: str | None) -> str:
    """Return what tells whether weights have changed."""
    return "" if weights is None else fingerprint_of(weights)


def clip_identity(clip: str, weights: str | None) -> str:
    """Return that of a CLIP and the weights for its architecture, of which it may have its own."""
    own = is_brought(clip) or folder_at(clip)
    return clip + fingerprint_of(clip, "clip") if own else weights_identity(weights)


def start_identity(start: str | None) -> str | None:
    """Return that of what `fill_backbone` takes: what a package brings may change as a file of the user's may."""
    if start is None:
        return None
    told = fingerprint_of(start, BACKBONE)
    return f"{start} {told}" if is_brought(start) else told


def brought_identity(settings: Any, own: Collection[str] = ()) -> str:
    """Return that of all that plug-ins bring among the networks of a method's settings, and of what lies on this
    machine under those that are a user's `own`.
    """
    found: dict[str, None] = {}
    for name, value in vars(settings).items():
        addresses = value if isinstance(value, tuple) else (value,)
        for address in addresses:
            if isinstance(address, str) and (is_brought(address) or (name in own and _is_here(address))):
                found[fingerprint_of(address, ROLES.get(name, name))] = None
    return "".join(found)


def _is_here(address: str) -> bool:
    return file_at(address) is not None or folder_at(address) is not None


def settings_identity(settings: Any) -> str:
    """Return that of all of a method's settings, and of what lies on this machine or a plug-in brings under an address
    among them, whatever networks these are of.
    """
    told = {name: str(value) for name, value in sorted(vars(settings).items())}
    found = [_content_of(name, value) for name, value in told.items()]
    return short_digest_of(repr((told, found)))


def _content_of(name: str, value: str) -> str:
    if _is_here(value):
        return fingerprint_of(value)
    if is_brought(value):
        for role in (name, "dino", "clip"):  # a preset, which is called as a scheme, is none of these
            with suppress(WeightsError):
                return fingerprint_of(value, role)
    return ""
