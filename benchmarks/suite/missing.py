"""What to say when a program that an experiment needs is not there."""

from __future__ import annotations


class MissingProgramError(Exception):
    """The world's fault: a program is not installed."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} is not here; on Debian: apt-get install {package}")
