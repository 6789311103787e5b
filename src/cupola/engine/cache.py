"""The cache: which earlier result may stand for a step, and what decided it.

A key has two parts. The base key is in the snapshot: code, literal inputs, options. The inputs key is made here, from
the digests of the outputs that a step reads and of the files, variables and requirements that count for it. One query
brings the newest results for all base keys of a run; the chain of steps is then resolved in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cupola import digest
from cupola.artifacts import materializers
from cupola.artifacts.blobs import Blobs
from cupola.engine.fan import literal_items
from cupola.entities.artifact import Manifest
from cupola.errors import CupolaError
from cupola.snapshot import FromStep, Gather, Snapshot, Source, StepOptions, StepSpec
from cupola.store import OWNER, CacheEntry, FindCached, FindCachedExactly, ListInputs, Store

MISSING = "missing"
"""Stands for the content of a file that isn't there."""
Manifests = Mapping[tuple[int, str], Manifest]


class Inputs(msgspec.Struct, frozen=True, gc=False):
    """What a step reads in this run.

    Attributes:
        digests: Digest of each output it reads, of what counts besides (files, variables, requirements), by a name for
            people.
        key: The inputs key; empty when an earlier result can't be used.
        reason: Why not, else empty.
    """

    digests: dict[str, str]
    key: str
    reason: str = ""


class CacheLookup:
    """The cache as one run sees it: what was found for all its steps in one query."""

    def __init__(self, store: Store, snapshot: Snapshot, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs
        readable = {
            spec.base_key for spec in snapshot.steps if spec.base_key and snapshot.options[spec.options].cache_read
        }
        self._found: dict[tuple[str, str], CacheEntry] = {}
        self._misses: dict[str, int] = {}
        self._asked: set[str] = set()
        self._ask(tuple(sorted(readable)))
        self._listed: dict[str, frozenset[int] | None] = {}

    def _ask(self, base_keys: tuple[str, ...]) -> None:
        found = self._store.ask(FindCached(base_keys), who=OWNER) if base_keys else {}
        self._found.update(found)
        self._misses.update(dict.fromkeys((base for base, _inputs in found), 0))
        self._asked.update(base_keys)

    def find(self, spec: StepSpec, options: StepOptions, inputs: Inputs) -> tuple[CacheEntry | None, str]:
        """Return the newest result that may stand for a step, or None and what a person should know of it."""
        if not spec.base_key or not inputs.key or not options.cache_read:
            return None, ""
        if spec.base_key not in self._asked:  # of a step that a dynamic pipeline called just now
            self._ask((spec.base_key,))
        entry = self._found.get((spec.base_key, inputs.key))
        if entry is None and self._may_have(spec.base_key, inputs.key):
            entry = self._store.ask(FindCachedExactly(spec.base_key, inputs.key), who=OWNER)
        if entry is None:
            return None, ""
        now = time.time()
        if options.cache_expires_s is not None and now - entry.made_at > options.cache_expires_s:
            return None, f"the result of run {entry.run} is older than {options.cache_expires_s:g} s"
        for version in entry.outputs:
            for file in version.manifest.files:
                if file.kind in "fx" and not self._blobs.exists(file.blob):
                    return None, f"the result of run {entry.run} can't be used: {file.blob} is missing or damaged"
        return entry, ""

    def _may_have(self, base_key: str, inputs_key: str) -> bool:
        """Tell whether it is worth asking for exactly these keys.

        From the second miss of a base key on, one query lists what inputs it has results for: a long chain or map of
        one step would otherwise ask once for each of its calls.
        """
        if base_key not in self._misses:
            return False
        self._misses[base_key] += 1
        if self._misses[base_key] == 1:
            return True
        if base_key not in self._listed:
            self._listed[base_key] = self._store.ask(ListInputs(base_key), who=OWNER)
        listed = self._listed[base_key]
        return listed is None or digest.checksum(inputs_key) in listed


def read_inputs(
    spec: StepSpec, options: StepOptions, files: Mapping[str, str], manifests: Manifests, root: Path
) -> Inputs:
    """Return the digests of what a step reads.

    Args:
        spec: The step.
        options: Its options.
        files: Paths of the files and folders among its literal inputs, by a name for people.
        manifests: The stored outputs of earlier steps.
        root: Source root, which relative paths start at.
    """
    digests = literal_items(spec) if spec.fan is not None else {}
    reason = ""
    for name, source in spec.inputs.items():
        for label, found in output_digests(name, source, manifests):
            digests[label] = found.digest
            if not found.stable and name not in options.cache_ignore:
                reason = f"input {name!r} has no stable digest"
    for label, path in files.items():
        digests[label] = _file_digest(root / path)
    for path in options.cache_files:
        digests[f"file {path}"] = _file_digest(root / path)
    for name in options.cache_env:
        digests[f"env {name}"] = digest.variable(os.environ.get(name))
    if options.requirements or options.settings:
        from cupola.engine.wanted import requirements_digest, wanted_environment  # 2 ms, which few programs need

        if (wanted := wanted_environment(options)) is not None:
            digests["option requirements"] = requirements_digest(wanted.requirements, wanted.python, root)
    if reason or not spec.base_key:
        return Inputs(digests, "", reason or spec.uncacheable)
    counted = digests.items()
    if options.cache_ignore:
        counted = [(label, text) for label, text in counted if _root_name(label) not in options.cache_ignore]
    return Inputs(digests, digest.inputs_key(counted))


def output_digests(name: str, source: Source, manifests: Manifests) -> list[tuple[str, Manifest]]:
    """Return the stored outputs inside an input, each with a name for people such as `frames[2]`."""
    if isinstance(source, FromStep):
        return [(name, manifests[source.step, source.output])]
    if isinstance(source, Gather):
        return [
            found
            for place, item in enumerate(source.items)
            for found in output_digests(f"{name}[{place}]", item, manifests)
        ]
    return []


def is_known(spec: StepSpec, manifests: Manifests) -> bool:
    """Tell whether all outputs that a step reads are known."""
    return all(_known(source, manifests) for source in spec.inputs.values())


def _known(source: Source, manifests: Manifests) -> bool:
    if isinstance(source, FromStep):
        return (source.step, source.output) in manifests
    if isinstance(source, Gather):
        return all(_known(item, manifests) for item in source.items)
    return True


def _root_name(label: str) -> str:
    return label.partition("[")[0]


def _file_digest(path: Path) -> str:
    try:
        return materializers.files.content_digest(path)
    except (OSError, CupolaError):
        # The step itself says best what it misses; for the cache a missing file is one that differs from all others.
        return MISSING
