"""The door for authors of plugins: the ports they implement, and how to register what they wrote."""

from __future__ import annotations

from cupola.artifacts.port import Materializer
from cupola.artifacts.registry import register_materializer

__all__ = ["Materializer", "register_materializer"]
