"""Published weights, from the first place that has them: the machine's caches, a server, the hub."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from wordmask.plugins import installed
from wordmask.weights import catalogue
from wordmask.weights.cache import cache_dir, is_offline, why_offline
from wordmask.weights.catalogue import Weight
from wordmask.weights.checkpoints import WeightsError
from wordmask.weights.download import DownloadError, UnreachableError, download
from wordmask.weights.reach import unreachable

HUB_FILES = tuple(file for files in catalogue.HUB_FILES.values() for file in files)
"""What a repository on the hub is searched for when no file in it is named."""

logger = logging.getLogger(__name__)


def fetch(entry: Weight, *, first: str, progress: bool | None = None) -> Path:
    """Return any copy that is here already, else the copy at `first`, else the next address that answers."""
    addresses = sorted(entry.addresses, key=lambda address: address != first)
    addresses.sort(key=lambda address: catalogue.local_copy(entry, address) is None)
    closed: dict[str, str] = {}
    if not is_offline() and catalogue.local_copy(entry, addresses[0]) is None:
        closed = unreachable_servers(addresses)
        if len(closed) == len(addresses):
            raise UnreachableError(_no_way_to(entry.name, closed.values(), addresses))
    failures: list[str] = []
    for address in addresses:
        try:
            if address in closed:
                raise UnreachableError(f"cannot fetch {address}: {closed[address]}")
            return _copy_at(entry, address, progress)
        except DownloadError as error:
            failures.append(str(error))
            if address != addresses[-1] and not is_offline():
                logger.warning("%s; trying the next place that has %s", error, entry.name)
    raise DownloadError("; ".join(failures) + (or_built_in() if is_offline() else ""))


def unreachable_servers(addresses: Sequence[str]) -> dict[str, str]:
    """Return those addresses whose server takes no connection, with the reason."""
    from huggingface_hub import constants

    servers = {address: address if catalogue.is_url(address) else constants.ENDPOINT for address in addresses}
    troubles = unreachable(servers.values())
    return {address: troubles[server] for address, server in servers.items() if server in troubles}


def _cache_of(address: str) -> str:
    """Return where a file from there is kept, with the variable that says so."""
    from huggingface_hub import constants

    return f"{cache_dir()} (WORDMASK_CACHE)" if catalogue.is_url(address) else f"{constants.HF_HUB_CACHE} (HF_HOME)"


def _no_way_to(what: str, reasons: Iterable[str], addresses: Iterable[str]) -> str:
    return f"{what} is not on this machine and {not_fetched(reasons)}; {instead_of_fetching(addresses)}"


def not_fetched(reasons: Iterable[str]) -> str:
    """Return that something cannot be fetched, and why."""
    asked = "" if is_offline() else ", is there a network?"
    return f"cannot be fetched{asked} ({'; '.join(dict.fromkeys(reasons))})"


def instead_of_fetching(addresses: Iterable[str]) -> str:
    """Return what can be done where nothing can be had from these addresses."""
    places = " or ".join(dict.fromkeys(map(_cache_of, addresses)))
    return (
        "give a file in its place (--weights FILE, or --set clip_weights=FILE and the like), copy the cache of a "
        f"machine that has it to {places}{or_built_in()}"
    )


def or_built_in() -> str:
    """Return what needs no network: presets of packages that bring their own networks."""
    own = (presets for plugin in installed() if plugin.addresses for presets in plugin.presets.values())
    presets = sorted({preset for some in own for preset in some})
    return f"; or take the small models that are built in (--preset {' or '.join(presets)})" if presets else ""


def _copy_at(entry: Weight, address: str, progress: bool | None) -> Path:
    if not catalogue.is_url(address):
        return _from_hub(catalogue.hub_files(address), gated=entry.gated)
    return download(
        address,
        catalogue.place(entry, address),
        sha256=entry.sha256,
        progress=progress,
    )


def _from_open_clip(name: str) -> Path:
    from open_clip.pretrained import get_pretrained_cfg

    architecture, _, tag = name.partition("/")
    repository, _, file = get_pretrained_cfg(architecture, tag).get("hf_hub", "").rpartition("/")
    if not repository:
        raise WeightsError(f"open_clip has no weights {tag!r} for {architecture!r}: see open_clip.list_pretrained()")
    files = (file,) if file else catalogue.HUB_FILES["open_clip"]
    return _from_hub([(repository, file) for file in files])


def _from_timm(name: str) -> Path:
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(name)
    if not known or not known.hf_hub_id:
        raise WeightsError(f"timm has no weights on the hub for {name!r}: see timm.list_pretrained()")
    files = (known.hf_hub_filename,) if known.hf_hub_filename else catalogue.HUB_FILES["timm"]
    return _from_hub([(known.hf_hub_id, file) for file in files])


def _from_named_repository(name: str) -> Path:
    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not owner or not repository:
        raise WeightsError(f"hf-hub:{name} names no repository: write hf-hub:org/repository or .../file")
    files = (file,) if file else HUB_FILES
    return _from_hub([(f"{owner}/{repository}", file) for file in files], revision=revision or None)


LIBRARIES: dict[str, Callable[[str], Path]] = {
    "open_clip": _from_open_clip,
    "timm": _from_timm,
    "hf-hub": _from_named_repository,
}


def _from_hub(candidates: Sequence[tuple[str, str]], *, revision: str | None = None, gated: bool = False) -> Path:
    """Return the first of the (repository, file) candidates that exists, from the hub's own cache or the hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError

    for repository, file in candidates:
        if isinstance(found := try_to_load_from_cache(repository, file, revision=revision), str):
            return Path(found)
    page = f"https://huggingface.co/{candidates[0][0]}"
    if why := why_offline():
        raise DownloadError(
            f"{candidates[0][1]} of {page} is not on this machine and downloads are switched off ({why}): "
            f"run `hf download {' '.join(candidates[0])}` where there is a network, then copy the hub's cache folder, "
            "or give the path of the file"
        )
    if trouble := unreachable_servers([candidates[0][0]]):
        raise UnreachableError(_no_way_to(page, trouble.values(), [candidates[0][0]]))
    for repository, file in candidates:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except LocalEntryNotFoundError as error:
            _fail_at_hub(page, "the hub cannot be reached", error)
        except EntryNotFoundError:
            continue
        except GatedRepoError as error:
            _fail_at_hub(page, "accept its licence on that page, then sign in with `hf auth login`", error)
        except Exception as error:  # the hub's client passes on whatever its HTTP library of the day raises
            hint = "; its licence must be accepted on that page and `hf auth login` done first" if gated else ""
            _fail_at_hub(page, (str(error).strip().splitlines() or [type(error).__name__])[0] + hint, error)
    raise DownloadError(f"{page} has no weights called {', '.join(file for _, file in candidates)}")


def _fail_at_hub(page: str, what: str, cause: Exception) -> NoReturn:
    raise DownloadError(f"cannot fetch weights from {page}: {what}") from cause
