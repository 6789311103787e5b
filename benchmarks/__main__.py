"""python -m benchmarks [--quick] [--only NAME …] [--json FILE] [--disk]: a table, JSON, and exit code 1 for a miss."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time

from benchmarks import figures
from benchmarks.measure import place
from benchmarks.targets import TARGETS


def main() -> int:
    """Measure, print the table as it grows, and say whether all targets were met."""
    arguments = _arguments()
    chosen = [measure for measure in figures.ALL if not arguments.only or measure.__name__ in arguments.only]
    targets = {target.name: target for target in TARGETS}
    rows: list[dict[str, object]] = []
    with place(on_disk=arguments.disk) as where:
        print(f"Python {platform.python_version()}, {platform.machine()}, {where.folder.parent}")
        for measure in chosen:
            sizes = figures.QUICK.get(measure, {}) if arguments.quick else {}
            began = time.perf_counter()
            try:
                found = measure(where, 2 if arguments.quick else arguments.times, **sizes)
            except (figures.Skipped, RuntimeError) as problem:
                rows.append({"name": measure.__name__, "problem": str(problem)})
                print(f"{measure.__name__}: not measured: {problem}", flush=True)
                continue
            for name, value in found.items():
                target = targets[name]
                good = round(value, 2) <= target.at_most  # one call for thousands of steps isn't one a step
                rows.append(
                    {"name": name, "value": value, "at_most": target.at_most, "unit": target.unit, "good": good}
                )
                limit = f"{target.at_most:.3g} {target.unit}".strip()
                print(
                    f"{'  ' if good else '✗ '}{target.what:<68} {value:9.3g} {target.unit:<3} (at most {limit})",
                    flush=True,
                )
            print(f"    {measure.__name__}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"python": platform.python_version(), "quick": arguments.quick, "figures": rows}, file, indent=1)
    return 0 if all(row.get("good") for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, two rounds: to see that it works")
    parser.add_argument("--only", nargs="+", choices=[measure.__name__ for measure in figures.ALL], help="these alone")
    parser.add_argument("--times", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    parser.add_argument("--disk", action="store_true", help="write to the disk instead of tmpfs, for information")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
