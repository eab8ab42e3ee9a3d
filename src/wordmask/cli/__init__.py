"""The command line: one verb a task, each a file with its options and what it does.

Results go to stdout, progress and complaints to stderr. Exit status: 0 done, 1 a failure explained in one line, 2 wrong
usage. A verb is imported when it is called, and heavy packages inside it, so that --help answers at once.
"""

import io
import sys
import threading
import traceback
import warnings
from functools import partial
from typing import Annotated, Any

import typer

from wordmask._version import __version__
from wordmask.cli.verbs import Verbs, all_verbs
from wordmask.console import MOST_NAMED, LeftOut, complain, quiet_log
from wordmask.console.notices import LeftOutWarning, notices
from wordmask.errors import WordmaskError
from wordmask.files import FORBIDDEN, NO_ROOM, NoRoomError

__all__ = ["app", "main"]

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of the signal."""

app = typer.Typer(
    cls=Verbs,
    name="wordmask",
    help="Names in, masks out, no pixel labels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the `wordmask` command. --debug, anywhere among the options, lets tracebacks through."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    quiet_log()
    left_out = LeftOut("--debug names them all", most=None if debug else MOST_NAMED)
    warnings.showwarning = partial(_show_warning, left_out)
    if not debug:
        threading.excepthook = _show_error_of_a_thread
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files are printed as they are, UTF-8 or not
            stream.reconfigure(errors="surrogateescape")
    with notices.counted():
        try:
            app(args=arguments, prog_name="wordmask")
        except SystemExit as stop:
            _tell_counts(left_out)
            if stop.code == INTERRUPTED:
                complain(_how_to_go_on(arguments))
            raise
        except Exception as error:
            _tell_counts(left_out)
            if debug:
                traceback.print_exc()
            complain(_explain(error))
            raise SystemExit(1) from None


def _tell_counts(left_out: LeftOut) -> None:
    left_out.finish()
    for line in notices.lines():
        complain(f"note: {line}")
    if passed := notices.passed_over():
        from wordmask.pictures.left_out import passed_over

        complain(f"note: {passed_over(passed)}")


def _how_to_go_on(arguments: list[str]) -> str:
    word, below = (*arguments[:2], "", "")[:2]
    if word == "segment":
        return "stopped; --skip-done goes on where `segment` was"
    verb = all_verbs().get(word)
    resumes = verb is not None and (verb.resumes if isinstance(verb.resumes, bool) else below in verb.resumes)
    return "stopped; the same command goes on from here" if resumes else "stopped"


def _explain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in NO_ROOM and not isinstance(error, NoRoomError):
        error = NoRoomError(error.filename or "the results or of temporary files", error)
    if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename and error.strerror:
        return f"error: {error.filename}: {error.strerror.lower()}; choose another place, or change its rights"
    if isinstance(error, WordmaskError | OSError):
        return f"error: {error}"
    what = " ".join(str(error).split())[:300] or "no message"
    return f"unexpected {type(error).__name__}: {what}; --debug shows where, for a report"


def _show_error_of_a_thread(told: threading.ExceptHookArgs) -> None:
    """Tell the error of a library's own thread, such as that of TensorBoard's writer, which hands it on to who
    waits.
    """
    if told.exc_value is not None:
        complain(f"warning: in a thread: {_explain(told.exc_value)}")


def _show_warning(left_out: LeftOut, message: Warning | str, *_: Any, **__: Any) -> None:
    if isinstance(message, LeftOutWarning):
        left_out(str(message).removeprefix("left out: "))
    else:
        complain(f"warning: {message}")


def _version(show: bool) -> None:
    if show:
        print(f"wordmask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Names in, masks out, no pixel labels."""
