"""Benchmarks: ours beside the reference way. A package of its own, since some library installs one of this name."""
