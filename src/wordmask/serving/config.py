"""A service's settings in a file: YAML with the options of `wordmask serve`, the limits, and methods.

host: 0.0.0.0
methods: [maskclip, {method: clip-dinoiser, precision: fp32, set: {refine: pamr}}]
students: [run/dogs.safetensors]
limits: {max_names: 50, decoders: 4}
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wordmask.serving.label_studio_pictures import LabelStudio
from wordmask.serving.settings import ServeError, ServeSettings
from wordmask.text_files import read_yaml

SECRET = "api_key"
OWN = ("method", "preset", "weights", "device", "precision")
"""Of a method, what is no setting of its own."""


class Method(BaseModel):
    """A method as `wordmask.load` takes it; `set` are settings of its own."""

    model_config = ConfigDict(extra="forbid")

    method: str
    preset: str | None = None
    weights: str | None = None
    device: str | None = None
    precision: str | None = None
    set: Annotated[dict[str, Any], AfterValidator(lambda own: _check_own(own))] = {}


class ServeConfig(BaseModel):
    """host, port: where to listen. page: whether there is a web page.

    methods: names of methods, or objects with a method's own preset, weights, device, precision and settings (set).
    students: files or URLs of students.
    preset, device, precision: of the methods that do not say.
    label_studio: what the backend of Label Studio may open; null for no such backend, {} for one that opens what tasks
    bring themselves.
    contrast: a file of `wordmask contrast build`, for requests that say nothing of it; null for what is known.
    access_log: a file, or - for standard output; null for none.
    review: a folder of `wordmask label`, reviewed at /review/; without methods and students, that alone is served.
    limits: whatever `ServeSettings` has.
    """

    model_config = ConfigDict(extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    page: bool = True
    methods: list[str | Method] = []
    students: list[str] = []
    preset: str = "paper"
    device: str = "auto"
    precision: str = "auto"
    contrast: str | None = None
    access_log: str | None = None
    label_studio: LabelStudio | None = None
    review: str | None = None
    limits: dict[str, Any] = {}

    @property
    def settings(self) -> ServeSettings:
        """Return the limits, checked."""
        try:
            return ServeSettings(**self.limits)
        except (ValidationError, TypeError) as error:
            raise ServeError(f"limits: {_reason(error)}") from error

    def shown(self) -> dict[str, Any]:
        """Return all settings as a file would have them, defaults included, but for the key."""
        limits = asdict(self.settings)
        del limits[SECRET]
        limits["trusted_proxies"] = list(limits["trusted_proxies"])
        return {**self.model_dump(mode="json"), "limits": limits}


NESTED = {
    Method.__name__: tuple(Method.model_fields),
    "label_studio": tuple(field.name for field in fields(LabelStudio)),
}
"""Settings of settings, by what stands in the place of a mistake in them."""


def read_config(path: Path | None, given: Mapping[str, Any], limits: Mapping[str, Any]) -> ServeConfig:
    """Return what a file says, and what was given in its place: that goes before the file.

    given, limits: options of the command line, None where one was not given.
    """
    told = {} if path is None else read_yaml(path)
    if told is None:
        told = {}
    if not isinstance(told, dict):
        raise ServeError(f"{path}: holds no settings: write KEY: VALUE lines, such as port: 8000")
    own = told.get("limits")
    if own is not None and not isinstance(own, dict):
        raise ServeError(f"{path}: limits holds no settings: write KEY: VALUE lines below it")
    known = {field.name for field in fields(ServeSettings)}
    for name in own or {}:
        if name not in known:
            raise ServeError(f"{path}: no limit {str(name)[:60]!r}; there is {', '.join(sorted(known - {SECRET}))}")
    merged = {**told, **{name: value for name, value in given.items() if value is not None}}
    merged["limits"] = {**(own or {}), **{name: value for name, value in limits.items() if value is not None}}
    try:
        config = ServeConfig.model_validate(merged)
        _ = config.settings
    except (ValidationError, ServeError) as error:
        where = "" if path is None else f"{path}: "
        raise ServeError(f"{where}{_reason(error) if isinstance(error, ValidationError) else error}") from error
    return config


def _check_own(settings: dict[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name in OWN:
            raise ValueError(f"set holds {name}, which stands beside it, not in it")
    return settings


def _reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = max(error.errors(), key=lambda own: len(own["loc"]))  # of what may be two things, what it is meant to be
    where = ".".join(str(part)[:60] for part in first["loc"][:4] if part != Method.__name__)
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = next((own for key, own in NESTED.items() if key in first["loc"]), tuple(ServeConfig.model_fields))
        near = get_close_matches(str(first["loc"][-1]), known, 1)
        way_out = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"{where}: is no setting; {way_out}"
    return f"{where}: {first['msg'][:1].lower()}{first['msg'][1:200]}"
