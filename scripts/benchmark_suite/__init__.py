"""The benchmark: contenders, load, offline limits, report."""
