"""`wordmask tables`: the papers' tables, ours beside the published figures: as text, as JSON, or on a page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wordmask.benchmarks import tables as papers
from wordmask.benchmarks.tables.beside import presets_beside
from wordmask.cli import options
from wordmask.console import complain
from wordmask.console.progress import progress_bar
from wordmask.plugins import named
from wordmask.text_files import counted

if TYPE_CHECKING:
    from wordmask.benchmarks.tables.base import Table
    from wordmask.benchmarks.tables.run import Run, Shared
    from wordmask.cli.table_lines import Shown

DISTILLING = ", ".join(papers.brought_suites()) or "suites of plug-ins"
"""Whose tables distil what they measure."""


def tables(
    name: Annotated[str | None, typer.Argument(help="Which table; without it, all are listed.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="The folder of the data sets; benchmarks that are drawn need none.")
    ] = None,
    beside: Annotated[
        bool,
        typer.Option(
            *(f"--{preset}" for preset in ("beside", *presets_beside())),
            help="Measure the columns beside a paper's own, which need no data, also without --root.",
        ),
    ] = False,
    pictures: Annotated[int | None, typer.Option(min=1, help="Only so many pictures of each benchmark.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only the row of this label, or those that hold it; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the table as this HTML file.")] = None,
    out_dir: Annotated[
        Path, typer.Option(help="Keeps every figure below NAME/: a table that was stopped goes on.")
    ] = Path("runs/tables"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget figures that were kept, measure anew.")] = False,
    protocol: Annotated[
        str | None, typer.Option(help="How pictures are looked at, in place of each row's own; as of `evaluate`.")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(help="By which words names are asked for, in place of each row's own.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="METHOD=FILE or URL in place of its presets' weights; may be repeated.", callback=options.once
        ),
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Pictures that ReCo learns names from, or a run of `wordmask distill`.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help=f"{DISTILLING}: the folder of what is distilled. [runs/{DISTILLING}]")
    ] = None,
    names: options.Names = None,
    collection: Annotated[
        int | None, typer.Option(min=1, help=f"{DISTILLING}: how many unlabelled pictures are drawn.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help=f"{DISTILLING}: of every student; experts take a tenth.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help=f"{DISTILLING}: KEY=VALUE as of `distill`; may be repeated.", callback=options.once),
    ] = None,
    device: options.Device = "auto",
    precision: options.StatedPrecision = "fp32",
    batch_size: options.BatchSize = 8,
    as_json: options.Json = False,
) -> None:
    """Measure a paper's table and print it beside the published figures. What is missing is named, not skipped.

    Without --root a paper's table shows its published figures at once, and says what data it needs.

    A suite distils what it measures, by --names only those things: started again, it goes on where it was.

    Example: `wordmask tables clip-diy-1 --root data`
    """
    if name is None:
        _list_tables(as_json=as_json)
        return
    from wordmask.benchmarks.tables.errors import TableError
    from wordmask.benchmarks.tables.run import Run
    from wordmask.html_page import Page

    files = dict(map(_method_and_file, weights or []))
    distilling = _distilling(runs=runs, names=names, collection=collection, steps=steps, settings=settings)
    if root is not None and not root.is_dir():
        raise TableError(f"there is no folder {root}, which --root names")
    shared, chosen = _chosen(name, only or [], distilling, device)
    _check_under(name, chosen, protocol, vocabulary)
    page = Page(name, "tables")
    if out is not None:
        page.check(out)
    told: list[dict[str, Any]] = []
    for table in chosen:
        measuring = Run(
            out_dir / table.name,
            root=root,
            pictures=table.pictures if pictures is None else pictures,
            weights=files,
            archive=archive,
            shared=shared,
            beside=beside or root is not None or pictures is not None,
            protocol=protocol,
            vocabulary=vocabulary,
            device=device,
            precision=precision,
            batch_size=batch_size,
            fresh=fresh,
            progress=progress_bar,
        )
        if told and not as_json:
            print()
        shown = _measured(table.changed(measuring), measuring, quiet=as_json)
        rows = [row.as_json(table.columns) for row in shown.rows]
        notes = {"notes": list(measuring.notes)} if measuring.notes else {}
        told.append({"table": table.name, "columns": list(table.columns), "rows": rows, **notes})
        shown.onto(page)
    if as_json:
        suite = name in papers.list_suites()
        print(json.dumps({"table": name, "tables": told} if suite else told[0], ensure_ascii=False))
    if out is not None:
        page.save(out)
        complain(f"written: {out}")


def _distilling(*, names: str | None, settings: list[str] | None, **others: Any) -> dict[str, Any]:
    """Return what was said, and nothing else."""
    told = {key: value for key, value in others.items() if value is not None}
    if names is not None:
        told["names"] = options.names(names).without_background().names
    return told | ({"settings": tuple(settings)} if settings else {})


def _check_under(name: str, chosen: "list[Table]", protocol: str | None, vocabulary: str | None) -> None:
    from wordmask.benchmarks.protocols import find_protocol
    from wordmask.benchmarks.wordings import find_wording

    if protocol is not None:
        find_protocol(protocol)
    if vocabulary is not None:
        find_wording(vocabulary)
    if (protocol or vocabulary) and not all(table.has_under for table in chosen):
        raise typer.BadParameter(f"the rows of {name} are measured as its paper has it: no --protocol, no --vocabulary")


def _method_and_file(pair: str) -> tuple[str, str]:
    method, equals, file = pair.partition("=")
    if not (method and equals and file):
        raise typer.BadParameter(
            f"--weights takes METHOD=FILE, such as namedmask=run/student/student.safetensors, not {pair!r}"
        )
    return method, file


def _list_tables(*, as_json: bool) -> None:
    found = [papers.find(name) for name in papers.list_tables()]
    titles = {table.name: table.title for table in found}
    titles |= {suite: f"{', '.join(members)}, one after the other" for suite, members in papers.list_suites().items()}
    if as_json:
        print(json.dumps([{"table": name, "title": title} for name, title in titles.items()], ensure_ascii=False))
        return
    width = max(map(len, titles), default=0)
    for name, title in titles.items():
        print(f"{name:{width}}  {title}")


def _measured(table: "Table", measuring: "Run", *, quiet: bool) -> "Shown":
    from wordmask.benchmarks.tables.base import fill
    from wordmask.cli.table_lines import Pace, Shown

    if measuring.count_kept:
        kept = counted(measuring.count_kept, "figure")
        complain(f"note: measured before, in {measuring.folder}: {kept}; --fresh forgets them")
    shown = Shown(table)
    if not quiet:
        print("\n".join(shown.head()), flush=True)
    pace = Pace(len(table.rows))
    for row in fill(table, measuring):
        lines = shown.add(row)
        if not quiet:
            print("\n".join(lines), flush=True)
        if (said := pace.told()) is not None:
            complain(f"{table.name}: {said}")
    shown.notes = measuring.notes
    if not quiet and (foot := shown.foot()):
        print("\n".join(["", *foot]))
    figures = {row.label: row.ours[table.columns[0]] for row in shown.rows if row.ours} if table.plot else {}
    if table.plot is not None and figures:
        table.plot.save(measuring.folder / table.plot.file, figures)
        complain(f"written: {measuring.folder / table.plot.file}")
    return shown


def _chosen(
    name: str, only: list[str], distilling: Mapping[str, Any], device: str
) -> "tuple[Shared | None, list[Table]]":
    """Return a table, or those of a suite, with the rows asked for, and what they share. Tables that have none of
    the rows are left out.
    """
    members = papers.list_suites().get(name, (name,))
    suite, shared = papers.suite_of(name), None
    if suite is None:
        if distilling:
            raise typer.BadParameter(
                "--runs, --names, --collection, --steps and --set are for tables that distil what they measure: "
                f"{DISTILLING}"
            )
        found = [papers.find(member) for member in members]
    else:
        from wordmask.console.progress import OnStderr

        shared, own = named(suite.open)(distilling, device=device, console=OnStderr())
        found = [own[member] for member in members]
    chosen = [table for table in (own.only(only) for own in found) if table.rows]
    if not chosen:
        from wordmask.benchmarks.tables.errors import TableError

        raise TableError(f"table {name!r} has no row with {' or '.join(only)} in its label")
    return shared, chosen
