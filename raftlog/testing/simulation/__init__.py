"""A seeded simulation of whole clusters: real core, driver and log over a fake clock, network and disk.

One seed decides everything, so a run can be repeated event by event. First faults happen (see `faults`), then
everything heals and progress must come within a bound; the invariants of the Raft paper are checked after each
event (see `invariants`). What the groups replicate, and what clients do, is given by who runs it (see `cluster`).
"""
