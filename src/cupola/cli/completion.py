"""`cupola completion`: scripts for shells, and the words that they ask for while somebody types.

The scripts hold no list: they ask `cupola completion words`, which knows commands, options and what is in the store.
Candidates are filtered here and never evaluated by the shell, so that a hostile name stays a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from cupola.cli.arguments import LIST_OPTIONS, OptionsListed, Parser
from cupola.errors import CupolaError

FILES = ":files"
"""The answer that tells a shell to complete file names itself."""
NEWEST = 50
BASH = """\
_cupola() {
    local word found=()
    while IFS= read -r word; do found+=("$word"); done \\
        < <(cupola completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=()
    if [[ ${found[0]:-} == ":files" ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
        return
    fi
    for word in "${found[@]}"; do COMPREPLY+=("$(printf '%q' "$word")"); done
}
complete -F _cupola cupola
"""
ZSH = """\
#compdef cupola
_cupola() {
    local -a found
    found=("${(@f)$(cupola completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${found[1]} == ":files" ]]; then
        _files
    else
        compadd -a found
    fi
}
compdef _cupola cupola
"""
FISH = """\
function __cupola_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (cupola completion words -- $words[2..-1] 2>/dev/null)
    if test "$found[1]" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c cupola -f -a '(__cupola_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
HOW = {
    "bash": 'eval "$(cupola completion bash)"      # in ~/.bashrc',
    "zsh": 'eval "$(cupola completion zsh)"       # in ~/.zshrc, after compinit',
    "fish": "cupola completion fish | source       # in ~/.config/fish/config.fish",
}


def completion(given: Sequence[str]) -> int:
    """Print a completion script, or what completes some words."""
    if given and given[0] == "words":
        words = list(given[1:])
        for candidate in complete(words[1:] if words[:1] == ["--"] else words):
            print(candidate)
        return 0
    lines = "\n".join(f"  {line}" for line in HOW.values())
    parser = Parser("completion", "Print a completion script for a shell.", epilog=f"To use it:\n{lines}")
    parser.option("shell", metavar="SHELL", choices=tuple(SCRIPTS), help="bash, zsh or fish")
    chosen = parser.read(given)
    print(SCRIPTS[chosen.shell], end="")
    return 0


def complete(words: Sequence[str]) -> list[str]:
    """Return what the last of some words may become; the others stand before it, without `cupola` itself."""
    before, current = list(words[:-1]), words[-1] if words else ""
    try:
        candidates = _candidates(before, current)
    except CupolaError:
        # Whoever types wants no errors between the lines; without a store there is nothing to complete.
        candidates = []
    if candidates == [FILES]:
        return candidates
    return [word for word in candidates if word.startswith(current) and word.isprintable()]


def _candidates(before: Sequence[str], current: str) -> list[str]:
    from cupola.cli.main import COMMANDS

    if not before:
        return [*COMMANDS, "--help", "--version", "--debug"]
    name, rest = before[0], list(before[1:])
    if name not in COMMANDS:
        return []
    verbs = _verbs(name)
    if verbs and not rest:
        return [*verbs, "--help"]
    if verbs:
        name, rest = f"{name} {rest[0]}", rest[1:]
    if current.startswith("-"):
        return _options(name)
    if rest and rest[-1] in VALUES:
        return VALUES[rest[-1]](rest)
    places = POSITIONS.get(name, ())
    place = sum(not word.startswith("-") for word in rest)
    return places[min(place, len(places) - 1)](rest) if places else []


def _verbs(name: str) -> list[str]:
    return VERBS.get(name, [])


def _options(command: str) -> list[str]:
    """Return the options of a command, which it lists itself."""
    from cupola.cli.main import COMMANDS

    name, *verb = command.split(" ")
    module, function, _said = COMMANDS[name]
    try:
        getattr(import_module(f"cupola.cli.{module}"), function)([*verb, LIST_OPTIONS])
    except OptionsListed as listed:
        return list(listed.names)
    return []


def _runs(_words: Sequence[str]) -> list[str]:
    return ["last", *_names("run")]


def _pipelines(_words: Sequence[str]) -> list[str]:
    return _names("pipeline")


def _artifacts(_words: Sequence[str]) -> list[str]:
    return _names("artifact")


def _names(kind: str) -> list[str]:
    from cupola.client.connect import open_store
    from cupola.client.search import search

    found, _more = search(open_store(), kind, {}, limit=NEWEST)
    return [record.name for record in found]


def _steps(words: Sequence[str]) -> list[str]:
    from cupola.cli.show import find_run

    run = next((word for word in words if not word.startswith("-")), "last")
    return list(find_run(run).steps)


def _files(_words: Sequence[str]) -> list[str]:
    return [FILES]


def _states(_words: Sequence[str]) -> list[str]:
    from cupola.entities.run import RunStatus, StepStatus

    return sorted({*map(str, RunStatus), *map(str, StepStatus)})


def _shells(_words: Sequence[str]) -> list[str]:
    return list(SCRIPTS)


Complete = Callable[[Sequence[str]], list[str]]
VERBS = {
    "runs": ["list", "show", "delete"],
    "steps": ["list", "show"],
    "pipelines": ["list", "show", "delete"],
    "artifacts": ["list", "show", "download", "delete"],
}
POSITIONS: dict[str, tuple[Complete, ...]] = {
    "init": (_files,),
    "run": (_files,),
    "plan": (_files,),
    "show": (_runs, _steps),
    "logs": (_runs, _steps),
    "diff": (_runs,),
    "completion": (_shells,),
    "doctor": (lambda _words: ["store"],),
    "runs show": (_runs, _steps),
    "runs delete": (_runs,),
    "pipelines show": (_pipelines,),
    "pipelines delete": (_pipelines,),
    "artifacts show": (_artifacts,),
    "artifacts download": (_artifacts, _files),
    "artifacts delete": (_artifacts,),
}
VALUES: dict[str, Complete] = {
    "--why": _steps,
    "--status": _states,
    "--pipeline": _pipelines,
    "--artifact": _artifacts,
    "--run": _runs,
    "--config": _files,
}
