"""raftlog: Raft for many groups in one process.

The core (messages, quorum, confchange, progress, log, core, rawnode) is pure: no I/O, no clock, no randomness of
its own, and no Twisted. Around it stand the write-ahead log, the links between processes and the driver.
"""
