"""Which item comes next: the request distributions of YCSB (Cooper et al., SoCC 2010, §4.1).

Items are numbered from 0 in the order of their insertion. All of it is deterministic given the random numbers.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

#: YCSB's skew.
THETA = 0.99
#: Ranks that the scrambled distribution draws from, many more than items, as YCSB does: hashing 0 … n-1 onto n items
#: would leave a third of them without any rank.
_RANKS = 10**10
#: So many terms of a zeta sum are added up; the rest is their integral.
_TERMS = 1_000
_FNV_OFFSET, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
_64_BITS = (1 << 64) - 1


class Keys(Protocol):
    """A distribution over the items 0 … items - 1."""

    def choose(self, items: int) -> int:
        """Return an item, of so many that there are; they never become fewer."""
        ...


class Uniform:
    """All items alike."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def choose(self, items: int) -> int:
        """Return any item."""
        return int(self._rng.random() * items)


class Zipfian:
    """Rank r with a probability in proportion to 1 / (r + 1)^theta.

    The inverse of the distribution is approximated as Gray et al. do ("Quickly generating billion-record synthetic
    databases", SIGMOD 1994, §3.1): the first two ranks exactly, the others by a power.
    """

    def __init__(self, rng: Random, theta: float = THETA) -> None:
        self._rng = rng
        self._theta = theta
        self._power = 1 / (1 - theta)
        self._items = 0
        self._zeta = 0.0
        self._eta = 0.0

    def choose(self, items: int) -> int:
        """Return a rank below `items`."""
        if items != self._items:
            self._grow(items)
        uniform = self._rng.random()
        weight = uniform * self._zeta
        if weight < 1:
            return 0
        if weight < 1 + 0.5**self._theta:
            return min(1, items - 1)
        return min(items - 1, int(items * (self._eta * uniform - self._eta + 1) ** self._power))

    def _grow(self, items: int) -> None:
        if 0 < items - self._items < _TERMS < self._items:
            self._zeta += sum((rank + 1) ** -self._theta for rank in range(self._items, items))
        else:
            self._zeta = zeta(items, self._theta)
        self._items = items
        remaining = 1 - zeta(2, self._theta) / self._zeta
        self._eta = (1 - (2 / items) ** (1 - self._theta)) / remaining if remaining else 0.0


class ScrambledZipfian:
    """Few items are popular, and they lie anywhere: a rank's hash is its item."""

    def __init__(self, rng: Random, theta: float = THETA) -> None:
        self._ranks = Zipfian(rng, theta)

    def choose(self, items: int) -> int:
        """Return an item."""
        return fnv64(self._ranks.choose(_RANKS)) % items


class Latest:
    """The newest item is the most popular one."""

    def __init__(self, rng: Random, theta: float = THETA) -> None:
        self._ages = Zipfian(rng, theta)

    def choose(self, items: int) -> int:
        """Return an item, most likely one of the last."""
        return items - 1 - self._ages.choose(items)


def zeta(items: int, theta: float) -> float:
    """Return the sum of 1 / rank^theta over ranks 1 … items, theta not 1; beyond 1,000 ranks by Euler and Maclaurin.

    The error is below 1e-9, that of the first term left out.
    """
    exact = min(items, _TERMS)
    total: float = sum(rank**-theta for rank in range(1, exact + 1))
    if items > exact:
        integral: float = (items ** (1 - theta) - exact ** (1 - theta)) / (1 - theta)
        ends = (items**-theta - exact**-theta) / 2
        slope = theta * (exact ** -(theta + 1) - items ** -(theta + 1)) / 12
        total += integral + ends + slope
    return total


def fnv64(number: int) -> int:
    """Return the 64-bit FNV hash of a number's eight bytes, lowest first, without its sign: what YCSB scrambles by."""
    hashed = _FNV_OFFSET
    for _ in range(8):
        hashed = ((hashed ^ (number & 0xFF)) * _FNV_PRIME) & _64_BITS
        number >>= 8
    return min(hashed, (1 << 64) - hashed)
