"""Workloads, load drivers and reports; `bin/bench` is the door."""
