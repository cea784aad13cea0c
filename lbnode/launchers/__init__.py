"""The ways to start and stop database servers."""
