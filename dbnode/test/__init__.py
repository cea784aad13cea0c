"""Tests of dbnode."""
