"""Cupola: ML pipelines as plain Python, every run recorded, cached and explainable."""

from __future__ import annotations
