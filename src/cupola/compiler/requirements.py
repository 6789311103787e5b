"""What a step asks for: lists and files of requirements, read into plain lines.

Includes are followed, local paths are written relative to the source root, and credentials become variables, so that
no line which is kept, shown, hashed or passed on holds one. What the lines mean is uv's business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from cupola.compiler.source import relative_path
from cupola.credentials import IN_ADDRESS, IN_QUERY, MASK, is_secret
from cupola.errors import ConfigError

OWN_FILE = "requirements.txt"
VARIABLE = "CUPOLA_CREDENTIAL_"
"""How the variables begin that stand for credentials in lines, `${CUPOLA_CREDENTIAL_1}`."""

# Patterns are text: compiling them costs milliseconds, which programs without requirements never need.
_OPTION = r"(-[rceif]|--[a-z][a-z-]*)(?:\s*=\s*|\s+|(?<=^-[rceif])|$)(.*)"
_SHORT = {
    "--requirement": "-r", "--constraint": "-c", "--editable": "-e", "--find-links": "-f", "-i": "--index-url",
}  # fmt: skip
_COMMENT = r"(^|\s)#.*$"
_TAIL = r"\s*;|\s+--"
_NAMED = r"(?P<name>[A-Za-z0-9][\w.-]*\s*(?:\[[^\]]*\])?\s*@\s*)(?P<target>.+)"
_BARE = r"(?P<target>.*?)(?P<extras>\[[\w\s,.-]*\])?"
_NAME = r"[A-Za-z0-9][\w.-]*"
_HASH = r"--hash[=\s]\s*(\S+)"
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar")
_REFERENCE = r"\$\{([A-Z0-9_]+)\}"
_ONLY_REFERENCES = r"(\$\{[A-Z0-9_]+\}|[^:$]+)?(:\$\{[A-Z0-9_]+\})?"


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What a step asks for.

    Attributes:
        lines: Requirements and options, as in a requirements file that lies in the source root.
        constraints: The same, of constraints.
        hashes: Hashes that the user demands, by normalized name of the distribution.
        files: Absolute paths of the files that were read.
        local: Absolute paths of the wheels, archives and folders that lines name.
        credentials: What the variables in lines stand for.
        logins: `user:password` by the address of git repositories; git is told by its environment, not by the address.
    """

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    hashes: Mapping[str, tuple[str, ...]] = {}
    files: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    credentials: Mapping[str, str] = {}
    logins: Mapping[str, str] = {}


def own_file(file: str, root: Path) -> str:
    """Return the line that includes `requirements.txt` of the folder that a step's file is in; empty if there is none.

    One in the source root is the project's own and no step's.
    """
    folder = os.path.dirname(relative_path(file, root))
    return f"-r {folder}/{OWN_FILE}" if folder and os.path.isfile(os.path.join(root, folder, OWN_FILE)) else ""


def normalized(name: str) -> str:
    """Return the name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution_of(line: str) -> str:
    """Return the normalized name that a line begins with; empty for options and paths."""
    found = re.match(_NAME, line)
    return normalized(found[0]) if found and "/" not in line.partition(" ")[0] else ""


_said: dict[tuple[str, ...], tuple[str, ...]] = {}
"""Lines as they were written, by what may be recorded of them; only of those with credentials in them."""


def recordable(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return lines with `****` for credentials; `read_requirements` in this process knows what stood there."""

    def of_address(match: re.Match[str]) -> str:
        return f"{match['scheme']}://{MASK}@" if _is_literal(match["scheme"], match["secret"]) else match[0]

    def of_query(match: re.Match[str]) -> str:
        return match[0] if re.fullmatch(_REFERENCE, match["secret"]) else match["name"] + MASK

    public = tuple(
        re.sub(IN_QUERY, of_query, re.sub(IN_ADDRESS, of_address, line)) if "://" in line else line for line in lines
    )
    if public != lines:
        _said[public] = lines
    return public


def _is_literal(scheme: str, secret: str) -> bool:
    """Tell whether what stands before an `@` is a credential itself, not the names of variables that hold one."""
    return is_secret(scheme, secret) and not ("${" in secret and re.fullmatch(_ONLY_REFERENCES, secret))


def read_requirements(said: Sequence[str], root: Path) -> Requirements:
    """Read lines, and the files that they include, relative to the source root.

    Raises:
        ConfigError: A file or a local path is missing, or a variable that stands for a credential isn't set.
    """
    reader = _Reader(root)
    for line in _said.get(tuple(said), said):
        reader.read_text(line, _Place(os.fspath(root), "requirements=[…]", is_constraint=False))
    return Requirements(
        lines=tuple(reader.lines[False]),
        constraints=tuple(reader.lines[True]),
        hashes={name: tuple(found) for name, found in reader.hashes.items()},
        files=tuple(file for file, _ in reader.seen),
        local=tuple(dict.fromkeys(reader.local)),
        credentials={name: secret for secret, name in reader.variables.items()},
        logins=reader.logins,
    )


class _Place(msgspec.Struct, frozen=True):
    """Where a line stands: the folder that its paths start at, its place for people, and whether it only constrains."""

    folder: str
    where: str
    is_constraint: bool


class _Reader:
    def __init__(self, root: Path) -> None:
        self.lines: dict[bool, list[str]] = {False: [], True: []}
        self.hashes: dict[str, list[str]] = {}
        self.local: list[str] = []
        self.variables: dict[str, str] = {}
        self.logins: dict[str, str] = {}
        self.seen: dict[tuple[str, bool], None] = {}
        self._root = root

    def read_text(self, text: str, place: _Place, *, is_file: bool = False) -> None:
        start, joined = 0, ""
        for number, line in enumerate(text.split("\n"), 1):
            start = start if joined else number
            line = line.rstrip("\r")
            if line.endswith("\\") and not line.lstrip().startswith("#"):
                joined += line[:-1]
                continue
            self._read_logical(joined + line, place, f":{start}" if is_file else "")
            joined = ""
        self._read_logical(joined, place, f":{start}" if is_file else "")

    def _read_logical(self, line: str, place: _Place, number: str) -> None:
        line = re.sub(_COMMENT, "", line).strip()
        if line:
            self._read_line(line, msgspec.structs.replace(place, where=place.where + number))

    def _read_line(self, line: str, place: _Place) -> None:
        option, value = "", line
        if found := re.fullmatch(_OPTION, line):
            option, value = _SHORT.get(found[1], found[1]), found[2].strip()
        if option in ("-r", "-c", "-f", "--index-url", "--extra-index-url"):
            value = re.sub(_REFERENCE, _known_reference, value.strip("\"'")) if "@" not in value else value
        if option in ("-r", "-c") and "://" not in value:
            self._read_file(value, place, is_constraint=place.is_constraint or option == "-c")
            return
        if option in ("-f", "--index-url", "--extra-index-url") and not re.match(r"\$\{|[a-z+]+:", value):
            value = self._placed(os.path.join(place.folder, os.path.expanduser(value)))
        elif option in ("", "-e"):
            value = self._requirement(value, place)
        value = self._without_credentials(value, place)
        self.lines[place.is_constraint].append(f"{option} {value}".strip())

    def _read_file(self, path: str, place: _Place, *, is_constraint: bool) -> None:
        full = os.path.normpath(os.path.join(place.folder, os.path.expanduser(path)))
        if (full, is_constraint) in self.seen:
            return
        self.seen[full, is_constraint] = None
        try:
            with open(full, encoding="utf-8-sig") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise ConfigError(
                f"the requirements file {path!r} can't be read: {reason}",
                where=f"{place.where}, looked for at {full}",
                fix="a relative path starts at the source root, in a file at its folder; for packages write a list, "
                "requirements=['pandas']",
            ) from error
        shown = relative_path(full, self._root) or full
        self.read_text(text, _Place(os.path.dirname(full), shown, is_constraint), is_file=True)

    def _requirement(self, line: str, place: _Place) -> str:
        found = re.search(_TAIL, line)
        body, tail = (line[: found.start()], line[found.start() :]) if found else (line, "")
        if hashes := re.findall(_HASH, tail):
            self.hashes.setdefault(distribution_of(body), []).extend(hashes)
        named = re.fullmatch(_NAMED, body)
        if named:
            path, extras = _local_path(named["target"], is_named=True), ""
        else:
            bare = re.fullmatch(_BARE, body)
            path, extras = _local_path(bare["target"], is_named=False) if bare else "", bare["extras"] if bare else ""
        if not path:
            return line
        full = os.path.normpath(os.path.join(place.folder, os.path.expanduser(path)))
        if not os.path.exists(full):
            raise ConfigError(
                f"the requirement {path!r} is no file and no folder",
                where=f"{place.where}, looked for at {full}",
                fix="a relative path starts at the source root, in a file at its folder",
            )
        self.local.append(full)
        return f"{named['name'] if named else ''}{self._placed(full)}{extras or ''}{tail}"

    def _placed(self, path: str) -> str:
        """Return a path relative to the source root if it is below it: the same line on every machine."""
        path = os.path.normpath(path)
        if path == os.path.normpath(self._root):
            return "."
        below = relative_path(path, self._root)
        return f"./{below}" if below else path

    def _without_credentials(self, line: str, place: _Place) -> str:
        def of_address(match: re.Match[str]) -> str:
            scheme, secret = match["scheme"], match["secret"]
            is_git = scheme.lower() in ("git+http", "git+https")
            if not (is_secret(scheme, secret) if is_git else _is_literal(scheme, secret)):
                return match[0]
            secret = re.sub(_REFERENCE, lambda found: _expanded(found, place), secret)
            if is_git and secret != MASK:
                # uv hands addresses to git as arguments, where everyone on the machine could read them.
                repository = re.split(r"[?#@\s]", line[match.end() :], maxsplit=1)[0]
                self.logins[f"{scheme.lower().removeprefix('git+')}://{repository}"] = secret
                return f"{scheme}://"
            return f"{scheme}://{self._variable(secret, place)}@"

        def of_query(match: re.Match[str]) -> str:
            secret = match["secret"]
            return match[0] if re.fullmatch(_REFERENCE, secret) else match["name"] + self._variable(secret, place)

        line = re.sub(IN_ADDRESS, of_address, line) if "@" in line else line
        return re.sub(IN_QUERY, of_query, line) if "://" in line else line

    def _variable(self, secret: str, place: _Place) -> str:
        if secret == MASK:
            raise ConfigError(
                "the requirements have credentials that were written in code, so that no record has them",
                where=place.where,
                fix="write https://${NAME}@… and export NAME, or leave them to ~/.netrc",
            )
        name = self.variables.setdefault(secret, f"{VARIABLE}{len(self.variables) + 1}")
        return f"${{{name}}}"


def _local_path(target: str, *, is_named: bool) -> str:
    """Return the path that a requirement names, as it was written; empty if it names a distribution or an address."""
    target = target.strip()
    if target.startswith("file:"):
        from urllib.parse import unquote  # only where a path is written as an address

        path = target.removeprefix("file:")
        return unquote(re.sub(r"^//[^/]*", "", path))
    if "://" in target or target.startswith("${"):
        return ""
    if is_named or target in (".", "..") or "/" in target or target.lower().endswith(_ARCHIVES):
        return target
    return ""


def _known_reference(found: re.Match[str]) -> str:
    """Return the value of a variable in a path; the reference where it isn't set or holds an address."""
    value = os.environ.get(found[1], "")
    return found[0] if not value or "://" in value else value


def _expanded(found: re.Match[str], place: _Place) -> str:
    value = os.environ.get(found[1])
    if value is None:
        raise ConfigError(
            f"the variable {found[1]} of the requirements isn't set", where=place.where, fix=f"export {found[1]}=…"
        )
    return value
