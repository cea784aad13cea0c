"""A shard under simulated faults: the real state machine, sessions, requests and clients (raftlog.testing.simulation).

`python -m dbnode.testing.fuzz` runs seeds and replays them.
"""
