"""What a run was asked for, kept in its folder, so that what is made otherwise is not mixed with what is there."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from wordmask.errors import WordmaskError
from wordmask.files import atomic_write
from wordmask.text_files import read_json, shown

WAY_OUT = "choose another --out, or delete it"
WIDE = 200
"""Characters of a setting in a message."""

Explain = Callable[[str, Any, Any], str]
"""(setting, its value in the folder, the one asked for) -> how they differ, and what else can be done."""


def explained(setting: str, old: Any, new: Any) -> str:
    return f"made with {setting} {shown(old, WIDE)}, not {shown(new, WIDE)}: use the same settings"


def plain(settings: Any) -> Any:
    """Return settings as they are read back from JSON."""
    return json.loads(json.dumps(settings, default=str))


def keep_settings(
    path: Path, settings: Mapping[str, Any], *, holds: str, error: type[WordmaskError], **rules: Any
) -> None:
    """Write a run's settings, or make sure that those that are there agree: see `check_settings`."""
    settings = plain(settings)
    if check_kept(path, settings, holds=holds, error=error, **rules) != settings:
        with atomic_write(path) as file:
            file.write(json.dumps(settings, indent=1).encode())


def check_kept(
    path: Path, settings: Mapping[str, Any], *, holds: str, error: type[WordmaskError], **rules: Any
) -> dict[str, Any] | None:
    """Return the settings that are there, if any; they agree, or it is an error. Nothing is written."""
    if not path.exists():
        return None
    found = read_json(path, way_out=f"{WAY_OUT} to have all made anew")
    if not isinstance(found, dict):
        raise error(f"{path}: is damaged, it holds no settings; {WAY_OUT} to have all made anew")
    check_settings(found, plain(settings), holds=holds, error=error, **rules)
    return found


def check_settings(
    found: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    holds: str,
    error: type[WordmaskError],
    free: Collection[str] = (),
    before: Mapping[str, Any] | None = None,
    explain: Explain = explained,
    way_out: str = WAY_OUT,
) -> None:
    """Raise, if what is there was made with other settings; the message names the first one that differs.

    holds: the message's beginning, as "out/ holds labels". free: settings that may change from start to start.
    before: what was done before there were such settings, or some of those within one. explain: what is said of a
    difference.
    """
    for difference in differences(_completed(found, before or {}), settings, free):
        raise error(f"{holds} {explain(*difference)}, {way_out}")


def _completed(found: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    both = {key: _completed(found[key], old) for key, old in before.items() if isinstance(found.get(key), dict)}
    return {**before, **found, **both}


def differences(
    found: Mapping[str, Any], settings: Mapping[str, Any], free: Collection[str] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting that differs, by its dotted name, with both values; None for one that is not there."""
    for key in [*settings, *(key for key in found if key not in settings)]:
        old, new = found.get(key), settings.get(key)
        if key in free or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            yield from ((f"{key}.{inner}", *values) for inner, *values in differences(old, new))
        else:
            yield key, old, new
