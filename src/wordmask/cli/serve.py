"""`wordmask serve`: a web page and a REST service."""

import os
from pathlib import Path
from typing import Annotated

import typer

from wordmask.cli import options
from wordmask.segmenters import DEFAULT_METHOD

KEY = "WORDMASK_API_KEY"


def serve(
    method: Annotated[list[str] | None, typer.Option(help="A segmenter, by its paper; may be repeated.")] = None,
    student: Annotated[
        list[str] | None, typer.Option(help="A student's file or URL, served under its name; may be repeated.")
    ] = None,
    preset: options.Preset = "paper",
    weights: options.Weights = None,
    settings: options.Settings = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    host: Annotated[
        str, typer.Option(help="The address to listen at; 0.0.0.0 is all of this machine's.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    page: Annotated[bool, typer.Option(help="The web page, beside the REST service.")] = True,
    api_key: Annotated[
        str | None, typer.Option(envvar=KEY, help="What clients must say; better in the environment.")
    ] = None,
    batch_size: options.BatchSize = 8,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest request, in MiB.")] = 20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest picture.")] = 24_000_000,
    max_names: Annotated[int, typer.Option(min=1, help="Most names in one request.")] = 200,
    waiting: Annotated[int, typer.Option(min=1, help="Pictures that may wait; more are sent away.")] = 32,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 60.0,
    connections: Annotated[int, typer.Option(min=1, help="Open connections; beyond it the idlest is closed.")] = 512,
    address_share: Annotated[
        float, typer.Option(min=0.01, max=1, help="What one client may have of each limit, by its address.")
    ] = 0.5,
    stop_seconds: Annotated[
        float, typer.Option(min=0.1, help="For answers that are being made when the service is told to stop.")
    ] = 6.0,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(help="A proxy's address or network (CIDR), believed in X-Forwarded-*; may be repeated."),
    ] = None,
) -> None:
    """Serve a web page and a REST interface (its description is at /docs).

    Example: `wordmask serve --preset world`
    """
    from wordmask.commands.serve import run

    methods = method or ([] if student else [DEFAULT_METHOD])
    loads = [(own, options.segmenter(own, preset, weights, device, precision, settings)) for own in methods]
    for file in student or []:
        loads.append((Path(file).stem, options.segmenter("namedmask", "world", file, device, precision, None)))
    run(
        loads=loads,
        host=host,
        port=port,
        page=page,
        settings={
            "api_key": _key(api_key),
            "batch_size": batch_size,
            "max_bytes": max_mb * 2**20,
            "max_pixels": max_pixels,
            "max_names": max_names,
            "waiting": waiting,
            "answer_seconds": timeout,
            "connections": connections,
            "address_share": address_share,
            "stop_seconds": stop_seconds,
            "trusted_proxies": tuple(trusted_proxy or ()),
        },
    )


def _key(given: str | None) -> str | None:
    """An empty one would leave the service open to all, though somebody meant to close it."""
    if given is None:
        given = os.environ.get(KEY)  # typer takes one that is empty for none
    if given is not None and not given.strip():
        raise typer.BadParameter(
            f"the key of --api-key or {KEY} is empty (perhaps a variable that is not set?): give one, or leave both "
            "out for a service without a key"
        )
    return given
