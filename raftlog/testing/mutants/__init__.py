"""Raft implementations that are wrong on purpose: the real one with one rule broken each.

A simulator is worth what it catches. Each Mutant is put in place by `applied` and taken away again; who can run
simulations counts how many seeds it takes to see it (dbnode.testing.mutation; table.txt beside this file says what
came of it). Chance hardly ever brings about what a few of them need, such as the paper's figure 8: for those a
scenario is named, a test that sees them.
"""

from raftlog.testing.mutants import membership, persistence, reads, replication
from raftlog.testing.mutants.mutant import Mutant

__all__ = ["MUTANTS", "Mutant"]

MUTANTS = (*persistence.MUTANTS, *replication.MUTANTS, *reads.MUTANTS, *membership.MUTANTS)
