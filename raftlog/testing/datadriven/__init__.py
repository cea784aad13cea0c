"""Dialogues with the core, written down as text files and replayed: `python -m raftlog.testing.datadriven DIR…`.

The grammar is that of cockroachdb/datadriven and the vocabulary that of etcd-io/raft's test data, so that cases
others wrote for their core can be put to ours. Names are translated here; the core knows nothing of them.
"""
