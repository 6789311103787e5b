"""What Cupola costs, as ratios to a floor that is measured in the same minutes: `python -m benchmarks`."""
