"""Tests of lbnode."""
