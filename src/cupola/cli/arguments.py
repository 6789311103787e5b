"""Reading a command's arguments: `argparse` with errors as ours, which name the nearest right spelling."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from cupola.cli.output import terminal_width
from cupola.errors import ConfigError
from cupola.suggest import nearest

Namespace = argparse.Namespace


LIST_OPTIONS = "--list-the-options"


class OptionsListed(Exception):
    """The answer to `LIST_OPTIONS`, which shell completion asks a command instead of calling it."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Argparse's own, told the width: to find it, each argument of a command would import `shutil`, 3 ms of a start."""

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        super().__init__(prog, width=(int(columns) if columns.isdigit() else terminal_width() or 80) - 2)


class Parser(argparse.ArgumentParser):
    """The parser of one command."""

    def __init__(self, command: str, description: str, *, epilog: str = "") -> None:
        super().__init__(
            prog=f"cupola {command}",
            description=description,
            epilog=epilog or None,
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
        )
        self.add_argument("--debug", action="store_true", help="show the whole traceback of an error")

    def option(self, *names: str, **keywords: Any) -> None:
        """Declare an argument; the same as `add_argument`, without its result."""
        self.add_argument(*names, **keywords)

    def run_option(self) -> None:
        """Declare the argument that names a run."""
        self.option("run", metavar="RUN", help="an id, a unique beginning of one, or a name; `last` for the newest run")

    def read(self, given: Sequence[str]) -> Namespace:
        """Return the arguments.

        Raises:
            ConfigError: They are not understood; the message names the nearest right spelling.
        """
        if given and given[0] == LIST_OPTIONS:
            raise OptionsListed(sorted(name for name in self._option_string_actions if name.startswith("--")))
        found, unknown = self.parse_known_args(list(_join_orders(given)))
        if unknown:
            self._refuse(unknown[0])
        return found

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed."""
        wrong = re.match(r"argument \S+: invalid choice: '([^']*)' \(choose from (.*)\)", message)
        close = nearest(wrong[1], re.findall(r"[\w-]+", wrong[2])) if wrong else None
        raise ConfigError(
            message, where=self.prog, fix=f"did you mean {close!r}?" if close else f"see `{self.prog} --help`"
        )

    def _refuse(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        if not name.startswith("-"):
            raise ConfigError(f"there is one argument too many: {word!r}", fix=f"see `{self.prog} --help`")
        close = nearest(name, self._option_string_actions)
        fix = f"did you mean {close}?" if close else f"see `{self.prog} --help`"
        raise ConfigError(f"`{self.prog}` has no option {name!r}", fix=fix)


def choose(family: str, verbs: dict[str, tuple[Callable[[Sequence[str]], int], str]], given: Sequence[str]) -> int:
    """Carry out one verb of a family of commands such as `runs list`.

    Args:
        family: Name of the family.
        verbs: Function and one line of help of each verb.
        given: The arguments after the family's name.

    Raises:
        ConfigError: There is no such verb.
    """
    if not given or given[0] in ("-h", "--help"):
        width = max(map(len, verbs))
        lines = [f"  {name:<{width}}  {text}" for name, (_function, text) in verbs.items()]
        print(
            "\n".join([f"usage: cupola {family} VERB …", "", *lines, "", f"`cupola {family} VERB --help` tells more."])
        )
        return 0
    verb, *rest = given
    if verb not in verbs:
        close = nearest(verb, verbs)
        fix = f"did you mean `cupola {family} {close}`?" if close else f"there are: {', '.join(verbs)}"
        raise ConfigError(f"`cupola {family}` has no verb {verb!r}", fix=fix)
    return verbs[verb][0](rest)


def _join_orders(given: Sequence[str]) -> Iterator[str]:
    """Yield the arguments with `--sort -started` as one word: a value that begins with a minus looks like an option."""
    waiting = iter(given)
    for word in waiting:
        order = next(waiting, None) if word == "--sort" else None
        if order is None:
            yield word
        elif order.startswith("-") and not order.startswith("--"):
            yield f"{word}={order}"
        else:
            yield from (word, order)


def add_worker_options(parser: Parser) -> None:
    """Declare the arguments that say how many steps may run at once."""
    parser.option(
        "--workers", type=int, metavar="N", help="how many steps may run at once (default: one for each processor)"
    )
    parser.option(
        "--in-process", action="store_true", help="run all steps in this process, one by one, as a debugger wants it"
    )


def chosen_workers(chosen: Namespace) -> int | None:
    """Return how many worker processes the arguments allow, or None when they don't say."""
    return 0 if chosen.in_process else chosen.workers
