"""Benchmarks: what polpod costs, measured beside what else is installed.  README.md says how to read the figures."""
