"""Figures of the project, each measured beside its rival: ``python -m benchmarks.<name> [--json FILE]``."""
