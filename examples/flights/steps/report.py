"""Write what was found for people."""

import tempfile
from pathlib import Path
from typing import Annotated

from cupola import ArtifactConfig, File, step
from steps.measures import Scores


@step
def write_report(
    quality: dict[str, int], scores: dict[str, Scores], best: str
) -> Annotated[File, ArtifactConfig(name="report", kind="report")]:
    """Write a page with the figures; the file is stored as an artifact, so where it is written doesn't matter."""
    rows = [
        f"| {name} | {score.mean_error:.2f} | {score.rms_error:.2f} | {score.within_15:.1%} |"
        for name, score in scores.items()
    ]
    gain = scores["guess"].mean_error - scores[best].mean_error
    text = [
        "# How late will it arrive?",
        "",
        f"{quality['flown']} of {quality['flights']} flights were flown ({quality['cancelled']} were cancelled).",
        "",
        "| prediction | mean error, min | RMS error, min | within 15 min |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Best: {best}, {gain:.2f} minutes better than the guess that a flight arrives as late as it leaves.",
        "Known to the models: timetable, airline, weather of the hour, delay at the gate. Tested on later days only.",
        "",
    ]
    page = Path(tempfile.mkdtemp()) / "report.md"
    page.write_text("\n".join(text), encoding="utf-8")
    return File(page)
