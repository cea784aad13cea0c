"""How rows become columns that plain SQL can use, and come back as they were.

    dtype                                          column      what fits it exactly
    Number, Int, Float, Decimal and the like       numeric     integers; doubles below 10^16, except -0.0
    Boolean                                        boolean     booleans
    anything else                                  text        strings

null fits everywhere. The key is a bigint. A value that does not fit its column stands in the row's last column, a JSON
object with the exact values by name of column, and beside that in its own column as far as SQL has something like it:
27 in a text column is also the text '27'; a string in a numeric one is NULL there. So an export or a report needs the
plain columns only, and rows come back with the kinds of JSON that they had (HTTP_API.md preamble), whatever the dtype.

Nothing here knows of PostgreSQL's protocol: rows go in as JSON objects and come out as tuples of strings and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import msgspec

from dbnode.schema import Schema
from dbnode.wire import Row

#: A name in PostgreSQL has at most so many bytes; longer ones would be cut without a word.
NAME_BYTES_MAX: Final = 63
#: Columns of a table, beyond which values stand in the last column only: a page of PostgreSQL must hold a row's
#: columns, 8,160 bytes, and each may take 24 bytes of it before it is moved out.
COLUMNS_MAX: Final = 250
#: Columns that each table of PostgreSQL has already.
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_NUMERIC_DTYPES = frozenset(
    {"number", "numeric", "decimal", "int", "integer", "bigint", "long", "float", "double", "real"}
)
_BOOLEAN_DTYPES = frozenset({"bool", "boolean"})
#: From here on the digits of a double have no decimal point: nothing would tell it from an integer.
_DOUBLE_MAX = 1e16
#: More combinations of kinds than tables really have are not remembered.
_PLANS_MAX = 1024

_encode = msgspec.json.Encoder().encode
_decode_exact = msgspec.json.Decoder(dict[str, str | int | float | bool | None]).decode


class _Plan(NamedTuple):
    """What to do with values of some kinds, by place and name.

    Those that are `kept` stand in the last column besides their own, if they have one; those to be `checked` may, and
    then not all of them stand in their own.
    """

    kept: list[tuple[int, str]]
    checked: list[tuple[int, str]]


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL, in a text in which a percent sign is written %% (see Query)."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


class Columns:
    """The columns of one table: names, types, and the way of rows in and out."""

    def __init__(self, schema: Schema) -> None:
        taken = set(_SYSTEM_COLUMNS)
        #: Names in SQL, key first. A column with a longer name, or one of PostgreSQL's own, is called by its place.
        self.names = [_free(name, f"column_{place}", taken) for place, name in enumerate(schema.columns)]
        #: The name of the last column.
        self.exact = _free("exact", "exact_values", taken)
        #: Names and types of the columns that there are, the last one excepted.
        self.names_in_table = self.names[:COLUMNS_MAX]
        self.types = ["bigint", *map(_type, schema.dtypes[1:COLUMNS_MAX])]
        self._places = {name: place for place, name in enumerate(self.names)}
        self._width = len(self.names)
        self._beyond = range(COLUMNS_MAX, self._width)
        self._readers: list[tuple[int, Callable[[str], int | float]]] = [
            (place, _number) for place, type_ in enumerate(self.types) if type_ == "numeric"
        ]
        fields = [f"c{place}" for place in range(len(self.types))]
        self._record = msgspec.defstruct(
            "Record", [*((name, Any) for name in fields), ("exact", Any, None)], gc=False, omit_defaults=True
        )
        #: By the kinds of a row's values.
        self._plans: dict[tuple[type, ...], _Plan] = {}

    # ---- in ---------------------------------------------------------------------------------------------------

    def to_json(self, rows: Iterable[Row]) -> str:
        """Return rows as a JSON list of objects with the fields c0, c1, … and `exact`, for json_to_recordset."""
        record, plans = self._record, self._plans
        records = []
        for row in rows:
            kinds = tuple(map(type, row))
            plan = plans.get(kinds)
            if plan is None:
                plan = self._plan(kinds)
            if plan.checked:
                records.append(self._checked(row, plan))
            elif plan.kept:
                records.append(record(*row[:COLUMNS_MAX], {name: row[place] for place, name in plan.kept}))
            else:
                records.append(record(*row))
        return _encode(records).decode()

    def _plan(self, kinds: tuple[type, ...]) -> _Plan:
        if len(self._plans) >= _PLANS_MAX:
            self._plans.clear()
        kept, checked = [], []
        for place in range(1, self._width):
            type_ = self.types[place] if place < COLUMNS_MAX else ""
            if not type_ or (type_ == "text" and not _fits(kinds[place], type_)):
                kept.append((place, self.names[place]))
            elif not _fits(kinds[place], type_):
                checked.append((place, self.names[place]))
        self._plans[kinds] = plan = _Plan(kept, checked)
        return plan

    def _checked(self, row: Row, plan: _Plan) -> Any:
        values: list[Any] = list(row[:COLUMNS_MAX])
        exact = {name: row[place] for place, name in plan.kept}
        for place, name in plan.checked:
            value = values[place]
            is_double = self.types[place] == "numeric" and type(value) is float
            if is_double and _keeps_point(value):
                continue
            if not is_double:
                values[place] = None
            exact[name] = value
        return self._record(*values, exact or None)

    # ---- out --------------------------------------------------------------------------------------------------

    def selected(self) -> str:
        """Return the list of a SELECT whose rows `from_sql` takes."""
        types = zip(self.names_in_table, self.types, strict=True)
        parts = [quoted(name) + ("::text" if type_ == "numeric" else "") for name, type_ in types]
        return ", ".join([*parts, quoted(self.exact) + "::text"])

    def from_sql(self, found: Iterable[tuple[Any, ...]]) -> list[Row]:
        """Return rows as they were before they went into the table."""
        if self._readers or self._beyond:
            return [self._row(list(values)) for values in found]
        return [values[:-1] if values[-1] is None else self._row(list(values)) for values in found]

    def _row(self, values: list[Any]) -> Row:
        exact = values.pop()
        for place, read in self._readers:
            if values[place] is not None:
                values[place] = read(values[place])
        if self._beyond:
            values += [None] * len(self._beyond)
        if exact is not None:
            for name, value in _decode_exact(exact).items():
                values[self._places[name]] = value
        return tuple(values)

    # ---- size -------------------------------------------------------------------------------------------------

    def size(self) -> str:
        """Return an expression for about how many bytes a row is long in MessagePack, but not more than that.

        (Rows with characters that JSON escapes may count as longer.) Nothing that is long need be read for it.
        """
        texts = [quoted(name) for name, type_ in zip(self.names_in_table, self.types, strict=True) if type_ == "text"]
        parts = [f"coalesce(octet_length({name}), 0)" for name in texts]
        # What `exact` holds of short values is in the columns as well; only what goes beyond counts.
        short = sum(len(_encode(name)) + 32 for name in self.names[1:])
        parts.append(f"coalesce(greatest(octet_length({quoted(self.exact)}::text) - {short}, 0), 0)")
        return " + ".join([str(self._width), *parts])


def _free(name: str, otherwise: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    chosen = name if len(name.encode()) <= NAME_BYTES_MAX else otherwise
    while chosen in taken:
        chosen = otherwise
        otherwise += "_"
    taken.add(chosen)
    return chosen


def _type(dtype: str) -> str:
    word = dtype.strip().lower()
    if word in _NUMERIC_DTYPES:
        return "numeric"
    return "boolean" if word in _BOOLEAN_DTYPES else "text"


def _fits(kind: type, type_: str) -> bool:
    """Return whether every value of a kind fits a column; of doubles in a numeric one some do not."""
    fitting = {"text": str, "numeric": int, "boolean": bool}[type_]
    return kind is fitting or kind is type(None)


def _keeps_point(value: float) -> bool:
    """Return whether a double comes back from a numeric column as a double: with its point, and with its sign."""
    return abs(value) < _DOUBLE_MAX and (value != 0.0 or str(value) == "0.0")


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)
