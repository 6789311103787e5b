"""Write what was found for people."""

import tempfile
from pathlib import Path
from typing import Annotated

from cupola import ArtifactConfig, File, step
from steps.measures import Scores


@step
def write_report(
    quality: dict[str, int], chosen_on: dict[str, Scores], tested: dict[str, Scores], best: str
) -> Annotated[File, ArtifactConfig(name="report", kind="report")]:
    """Write a page with the figures; the file is stored as an artifact, so where it is written doesn't matter."""
    rows = [
        f"| {name} | {chosen_on[name].mean_error:.2f} "
        f"| {score.mean_error:.2f} | {score.rms_error:.2f} | {score.within_15:.1%} |"
        for name, score in tested.items()
    ]
    gain = tested["shifted guess"].mean_error - tested[best].mean_error
    word = "better" if gain >= 0 else "worse"
    text = [
        "# How late will it arrive?",
        "",
        f"{quality['flown']} of {quality['flights']} flights were flown ({quality['cancelled']} were cancelled).",
        "",
        "| prediction | to choose: mean error, min | to report: mean error, min | RMS error, min | within 15 min |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Chosen: {best}. On flights held back until then: {abs(gain):.2f} minutes {word} than the shifted guess.",
        "",
        "The guess: a flight arrives as late as it leaves; shifted: minus what flights made up on average in training.",
        "Known to the models: timetable, airline, weather of the hour, delay at the gate.",
        "",
    ]
    page = Path(tempfile.mkdtemp()) / "report.md"
    page.write_text("\n".join(text), encoding="utf-8")
    return File(page)
