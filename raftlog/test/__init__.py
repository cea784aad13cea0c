"""Tests of raftlog."""
