"""What steps made and others still read; kept no longer than that, so that memory doesn't grow with the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cupola.engine.graph import Graph
from cupola.entities.artifact import Manifest


class Shelf:
    """The outputs of one run that are read; used by the driver's thread only.

    Attributes:
        manifests: Where each is stored, by position and output name.
        objects: Those that may be passed on as the very object.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.manifests: dict[tuple[int, str], Manifest] = {}
        self.objects: dict[tuple[int, str], Any] = {}

    def put(self, position: int, outputs: Iterable[tuple[str, Manifest]]) -> None:
        """Keep what a step made, if a step that isn't over reads it."""
        if self._graph.is_read(position):
            for output, manifest in outputs:
                self.manifests[position, output] = manifest

    def put_objects(self, position: int, objects: Mapping[str, Any]) -> None:
        """Keep objects that a step made, by output, if a step that isn't over reads them."""
        if self._graph.is_read(position):
            for output, value in objects.items():
                self.objects[position, output] = value

    def clear(self, position: int, names_of: Callable[[int], Iterable[str]]) -> None:
        """Drop what only a step that is over read; `names_of` returns the names of what another step has here."""
        for source in self._graph.release(position):
            for output in names_of(source):
                self.manifests.pop((source, output), None)
                self.objects.pop((source, output), None)
