"""The entry of the command line: finds the command, runs it, and turns errors into two lines and an exit code.

Help of the whole needs no command's module; each command's module is imported when it is called.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from cupola.errors import ConfigError, CupolaError
from cupola.late import load
from cupola.suggest import nearest
from cupola.text import printable

# Module and function that carry a command out, and what it does in one line.
COMMANDS = {
    "init": ("init", "init", "make this folder the source root of a project"),
    "run": ("run", "run", "run a pipeline of a file or module"),
    "resume": ("again", "resume", "go on with a run that failed, was cancelled or lost"),
    "rerun": ("again", "rerun", "run a run's pipeline again, taking over what still holds"),
    "reproduce": ("reproduce", "reproduce", "check in a clean place that a run gives the same results again"),
    "answer": ("answer", "answer", "answer what a paused run asks, and go on with it"),
    "cancel": ("cancel", "cancel", "stop a run; what has finished in it is kept"),
    "plan": ("plan", "plan", "say what a run would do and why, and run nothing"),
    "ps": ("runs", "ps", "list the runs that are active"),
    "show": ("show", "show", "show a run or one of its steps; why a step ran or didn't"),
    "logs": ("logs", "logs", "print what a run or step wrote"),
    "diff": ("diff", "diff", "compare two runs"),
    "debug": ("debug", "debug", "open a debugger in a step of a run, with its code and inputs"),
    "chaos": ("chaos", "chaos", "kill and resume a pipeline at random and say what that changed"),
    "doctor": ("doctor", "doctor", "look at the environment and check the store"),
    "completion": ("completion", "completion", "print a completion script for a shell"),
    "runs": ("runs", "runs", "list, show or delete runs"),
    "steps": ("steps", "steps", "list or show steps of runs"),
    "pipelines": ("pipelines", "pipelines", "list, show or delete pipelines"),
    "artifacts": ("artifacts", "artifacts", "list, show, download or delete artifacts"),
}
HEAD = "usage: cupola [--version] [--help] [--debug] COMMAND …"
FOOT = """\
`cupola COMMAND --help` tells more about one. Start with `cupola run FILE`, then `cupola show` what it names.
Exit codes: 0 done, 1 the run failed, 2 wrong use, 3 not reachable or not allowed, 130 or 143 cancelled."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _speak_utf8()
    debug = "--debug" in given[: given.index("--")] if "--" in given else "--debug" in given
    if debug:
        given.remove("--debug")
    try:
        code = _dispatch(given)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_is_gone()
    except KeyboardInterrupt:
        return 130
    except CupolaError as error:
        if debug:
            raise
        return _say(error)
    except Exception as error:  # whatever it is, people get two lines and the way to see more
        if debug:
            raise
        return _say(_unexpected(error))
    return code


def _dispatch(given: Sequence[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if given[0] in ("-V", "--version"):
        from cupola.version import VERSION

        print(f"cupola {VERSION}")
        return 0
    name, *rest = given
    command = COMMANDS.get(name)
    if command is None:
        raise _unknown(name)
    module, function, _help_line = command
    return getattr(load(f"cupola.cli.{module}"), function)(rest)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {said}" for name, (_module, _function, said) in COMMANDS.items()]
    return "\n".join([HEAD, "", "Run ML pipelines and see what happened and why.", "", *lines, "", FOOT])


def _unknown(name: str) -> CupolaError:
    close = nearest(name, COMMANDS)
    what = f"there is no option {name!r}" if name.startswith("-") else f"there is no command {name!r}"
    fix = f"did you mean `cupola {close}`?" if close else "`cupola --help` lists them"
    return ConfigError(what, fix=fix)


def _say(error: CupolaError) -> int:
    where = f" ({printable(error.where)})" if error.where else ""
    sys.stdout.flush()
    print(f"error: {printable(error.what)}{where}", file=sys.stderr)
    if error.fix:
        print(printable(error.fix), file=sys.stderr)
    return error.exit_code


def _unexpected(error: Exception) -> CupolaError:
    return CupolaError(
        f"unexpected {type(error).__name__}: {error}",
        fix="this is a mistake of Cupola's: run it again with --debug to see where, and tell us",
    )


def _speak_utf8() -> None:
    """Write letters beyond ASCII whatever the locale says, and never fail on one."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(encoding="utf-8" if is_ascii else None, errors="backslashreplace")


def _reader_is_gone() -> int:
    """End quietly when who reads our output has had enough, as `head` does."""
    with suppress(OSError, ValueError):
        # What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
