"""Choose how a run shows itself: redrawn in a terminal, as plain lines elsewhere, or not at all."""

from __future__ import annotations

import os

from cupola import engine
from cupola.engine.reporter import Plain, Reporter, Screen, Silent
from cupola.settings import read_setting


def make_reporter() -> Reporter:
    """Return the reporter that the setting `progress` asks for; call it before output is captured."""
    wanted = read_setting("progress")
    screen = Screen()
    if wanted == "off":
        return Silent(screen)
    able = screen.is_terminal and os.environ.get("TERM", "dumb") != "dumb"
    if able and wanted in ("auto", "live"):
        return engine.live.Live(screen)
    return Plain(screen)
