"""Tools that test raftlog: data-driven cases, simulator, checkers."""
