"""Who was refused, and why, in the log: once for each, since whoever is refused may come again at once, for ever."""

from __future__ import annotations

from twisted.logger import Logger

#: How many are remembered as logged; a flood of strangers must not grow this, and may log again after it.
_REMEMBERED_MAX = 1000


class Refusals:
    """The refusals of one listening port, `where`, in an operator's words."""

    _log = Logger()

    def __init__(self, where: str) -> None:
        self._where = where
        self._logged: set[tuple[str, str]] = set()

    def note(self, host: str, reason: str, kind: str | None = None) -> None:
        """Log that a host was refused, unless it was for a reason of this kind (by default: this reason) before."""
        key = (host, kind or reason)
        if key in self._logged:
            return
        if len(self._logged) >= _REMEMBERED_MAX:
            self._logged.clear()
        self._logged.add(key)
        self._log.warn(
            "refused a connection from {host} ({where}): {reason}", host=host, where=self._where, reason=reason
        )
