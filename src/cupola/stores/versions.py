"""Numbers of artifact versions: consecutive per artifact, given once, by whoever holds the write transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from cupola.entities.artifact import OutputRecord
from cupola.event import RunSealed
from cupola.stores.inserts import insert_rows

CHUNK = 500
"""Values of one statement, far below the least limit that any SQLite was built with (999)."""

_LARGEST = 2**62


class VersionDraft(msgspec.Struct, frozen=True, gc=False):
    """A version that has no number yet."""

    step: int
    position: int
    output: OutputRecord
    at: float


class Given(msgspec.Struct, frozen=True):
    """The number that a version got, and the label that its user gave it, unless another version has it."""

    number: int
    label: str

    def __str__(self) -> str:
        return f"{self.number}:{self.label}" if self.label else str(self.number)


class _Artifact(msgspec.Struct, gc=False):
    key: int
    last: int
    created_at: float = 0.0
    is_new: bool = False


def given_by(sealed: RunSealed) -> dict[tuple[int, int], Given]:
    """Return what the versions of a run were called before, by step and position."""
    given: dict[tuple[int, int], Given] = {}
    for step, position, text in sealed.versions:
        number, _, label = text.partition(":")
        given[step, position] = Given(int(number), label)
    return given


def write_versions(
    db: sqlite3.Connection,
    run: int,
    project: str,
    drafts: Sequence[VersionDraft],
    known: Mapping[tuple[int, int], Given],
) -> list[tuple[VersionDraft, str]]:
    """Number and write the versions of a batch; return those whose label was refused, and why.

    Args:
        db: Inside a write transaction.
        run: Number of the run that made them.
        project: Project that the artifacts belong to.
        drafts: What to write, in the order of numbers.
        known: What versions were called before a rebuild.
    """
    artifacts = _load_artifacts(db, project, drafts)
    refused: list[tuple[VersionDraft, str]] = []
    rows: list[tuple[object, ...]] = []
    labels: set[tuple[int, str]] = set()
    for draft in drafts:
        output, manifest = draft.output, draft.output.manifest
        artifact = artifacts[output.artifact]
        given = known.get((draft.step, draft.position)) if known else None
        if output.version:
            given, reason = _name_version(db, artifact, output.version, labels, given)
            if reason:
                refused.append((draft, f"{reason}; it is version {given.number} of {output.artifact!r}"))
        number = given.number if given else artifact.last + 1
        if number > artifact.last:
            artifact.last = number
        rows.append(
            (
                run, draft.step, draft.position, artifact.key, number, given.label if given else "", output.name,
                manifest.digest, manifest.size_bytes, output.kind, draft.at,
            )
        )  # fmt: skip
    _write_artifacts(db, project, artifacts)
    insert_rows(db, "INSERT OR FAIL", "version", rows)
    return refused


def _load_artifacts(db: sqlite3.Connection, project: str, drafts: Sequence[VersionDraft]) -> dict[str, _Artifact]:
    names = list(dict.fromkeys([draft.output.artifact for draft in drafts]))
    artifacts: dict[str, _Artifact] = {}
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        marks = ",".join("?" * len(chunk))
        for name, key, last in db.execute(f"{_LAST} WHERE project = ? AND name IN ({marks})", (project, *chunk)):
            artifacts[name] = _Artifact(key, last)
    if len(artifacts) < len(names):
        key = db.execute("SELECT coalesce(max(key), 0) FROM artifact").fetchone()[0]
        for draft in drafts:
            if draft.output.artifact not in artifacts:
                key += 1
                artifacts[draft.output.artifact] = _Artifact(key, 0, draft.at, True)
    return artifacts


_LAST = (
    "SELECT name, key, max(retired, coalesce((SELECT max(number) FROM version WHERE artifact = key), 0)) FROM artifact"
)


def _write_artifacts(db: sqlite3.Connection, project: str, artifacts: Mapping[str, _Artifact]) -> None:
    new = [(item.key, project, name, item.created_at, 0) for name, item in artifacts.items() if item.is_new]
    insert_rows(db, "INSERT OR FAIL", "artifact", new)


def _name_version(
    db: sqlite3.Connection, artifact: _Artifact, wanted: str, taken: set[tuple[int, str]], before: Given | None
) -> tuple[Given, str]:
    """Return what a version is called whose user named it, and why it isn't called so if that is impossible.

    What it was called before a rebuild it is called again.
    """
    as_number = _as_number(wanted)
    if before is not None:
        fits = as_number == before.number or wanted == before.label
    elif as_number is not None:
        fits = not _exists(db, artifact, "number", as_number) and (artifact.key, wanted) not in taken
        before = Given(as_number if fits else artifact.last + 1, "")
    else:
        fits = wanted != "latest" and not _exists(db, artifact, "label", wanted) and (artifact.key, wanted) not in taken
        before = Given(artifact.last + 1, wanted if fits else "")
    taken.add((artifact.key, wanted))
    if fits:
        return before, ""
    if wanted == "latest":
        return before, "'latest' always means the newest version, so none can be named so"
    return before, f"there is a version {wanted!r} already"


def _exists(db: sqlite3.Connection, artifact: _Artifact, column: str, value: str | int) -> bool:
    sql = f"SELECT 1 FROM version WHERE artifact = ? AND {column} = ?"
    return db.execute(sql, (artifact.key, value)).fetchone() is not None


def _as_number(text: str) -> int | None:
    """Return the number that a label is, in the way the store itself writes numbers, or None."""
    if text.isascii() and text.isdigit() and text[0] != "0" and len(text) < 19 and int(text) < _LARGEST:
        return int(text)
    return None
