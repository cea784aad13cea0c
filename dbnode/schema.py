"""What a table looks like, and the one place where rows and keys from JSON are checked.

Every value is checked here, once, at the edge (HTTP_API.md preamble); behind it rows are tuples in the schema's column
order whose first value is the key, an int. A value keeps its JSON kind: 27, 27.0, "27", true and null stay what they
are. The dtypes are the client's own words; only the key's means something: it must be numeric.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import starmap
from math import isfinite
from operator import itemgetter
from typing import Any, Final

import msgspec

from dbnode.errors import ApiError
from dbnode.wire import Row

INT64_MIN: Final = -(1 << 63)
INT64_MAX: Final = (1 << 63) - 1
#: PostgreSQL's limit is 1,600 columns, SQLite's 2,000.
COLUMNS_MAX: Final = 1000
NAME_CHARACTERS_MAX: Final = 128
#: dtypes that a key column may have, in lower case.
KEY_DTYPES: Final = frozenset({"number", "numeric", "int", "integer", "bigint", "long"})
#: Fields that stand beside the key's own name in request bodies, in lower case: a key column called so is ambiguous.
KEY_NAMES_RESERVED: Final = frozenset(
    ["consistency", "curr_idx", "data", "limit", "message", "next", "on_conflict", "shard", "shards", "status"]
)

_DECIMAL = re.compile(r"-?[0-9]{1,40}", re.ASCII)
_ENCODER = msgspec.json.Encoder()
#: msgspec writes a renamed field as it stands, so it refuses names that JSON would have to escape.
_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class Schema:
    """Columns and their dtypes; the first column is the key. Made by `schema_from_json`, or of names known good."""

    columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    #: The values of an object in column order; KeyError names a missing column.
    pick: Callable[[dict[str, Any]], tuple[Any, ...]] = field(init=False, repr=False, compare=False)
    #: A row as something that msgspec encodes as a JSON object.
    as_object: Callable[..., Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pick", _picker(self.columns))
        object.__setattr__(self, "as_object", _object_maker(self.columns))

    @property
    def key(self) -> str:
        """The name of the key column."""
        return self.columns[0]

    def to_json(self) -> dict[str, list[str]]:
        """Return what `schema_from_json` accepts."""
        return {"columns": list(self.columns), "dtypes": list(self.dtypes)}


def schema_from_json(value: object) -> Schema:
    """Return the schema that `{"columns": [...], "dtypes": [...]}` describes; ApiError `bad_schema` says what is wrong.

    The two field names may be written in any case.
    """
    if not isinstance(value, dict):
        raise _bad_schema(f"the schema is {_show(value)}; it must be an object with columns and dtypes")
    fields = {str(name).lower(): part for name, part in value.items()}
    columns = _strings(fields, "columns")
    dtypes = _strings(fields, "dtypes")
    if len(columns) != len(dtypes):
        raise _bad_schema(f"the schema has {len(columns)} columns and {len(dtypes)} dtypes; each column needs one")
    if not 1 <= len(columns) <= COLUMNS_MAX:
        raise _bad_schema(f"the schema has {len(columns)} columns; 1 to {COLUMNS_MAX} are possible")
    for place, name in enumerate(columns):
        _check_name(name, columns.index(name) == place)
    _check_key_column(columns[0], dtypes[0])
    return Schema(columns, dtypes)


def row_from_object(schema: Schema, value: object, where: str) -> Row:
    """Return the row that a JSON object describes. `where` names the place in the request, such as `data[3]`.

    ApiError `unknown_column`, `missing_column`, `bad_key` or `bad_value` names the column and the value.
    """
    try:
        row = schema.pick(value)  # type: ignore[arg-type]  # not a dict: explained below
        if len(value) != len(row) or not storable(row):  # type: ignore[arg-type]  # as above
            raise _explain(schema, value, where)
    except (KeyError, TypeError, IndexError):
        raise _explain(schema, value, where) from None
    if type(row[0]) is int:
        return row
    return (key_from_json(row[0], schema.key, where), *row[1:])


def rows_from_json(schema: Schema, value: object, where: str = "data") -> tuple[Row, ...]:
    """Return the rows of a list of JSON objects; errors as in `row_from_object`, with the place in the list."""
    if not isinstance(value, list):
        raise ApiError("bad_value", f"{where} is {_show(value)}; it must be a list of rows")
    return tuple([row_from_object(schema, item, f"{where}[{place}]") for place, item in enumerate(value)])


def changes_from_object(schema: Schema, value: object, key: int, where: str = "data") -> dict[int, Any]:
    """Return the new values by column number (never 0) that an /update of the row `key` asks for.

    The key may be repeated in the object if it is the same. Errors as in `row_from_object`.
    """
    if not isinstance(value, dict):
        raise ApiError("bad_value", f"{where} is {_show(value)}; it must be an object of columns to change")
    changes = {}
    for name, new in value.items():
        if name not in schema.columns:
            raise _unknown_column(schema, name, where)
        place = schema.columns.index(name)
        if place:
            _check_value(new, name, where)
            changes[place] = new
        elif (given := key_from_json(new, name, where)) != key:
            raise ApiError("bad_key", f"{where} has {name} {given}, but the row is {key}; the key cannot change")
    return changes


def key_from_json(value: object, name: str = "the key", where: str = "the request") -> int:
    """Return a key given as a JSON integer or as a string of decimal digits; else ApiError `bad_key`."""
    key: int | None = None
    if type(value) is int:
        key = value
    elif type(value) is str and _DECIMAL.fullmatch(value):
        key = int(value)
    if key is None:
        raise ApiError("bad_key", f'{name} in {where} is {_show(value)}; it must be an integer such as 2255 or "2255"')
    if not INT64_MIN <= key <= INT64_MAX:
        raise ApiError("bad_key", f"{name} in {where} is {_show(key)}; it must lie between {INT64_MIN} and {INT64_MAX}")
    return key


def rows_to_json(schema: Schema, rows: Iterable[Row]) -> bytes:
    """Return the rows as JSON objects joined by commas, without brackets; no rows are no bytes."""
    return _ENCODER.encode(list(starmap(schema.as_object, rows)))[1:-1]


def rows_to_lines(schema: Schema, rows: Iterable[Row]) -> bytes:
    """Return the rows as JSON objects, each on a line of its own that a newline ends; no rows are no bytes."""
    return _ENCODER.encode_lines(starmap(schema.as_object, rows))


def storable(values: Iterable[Any]) -> bool:
    """Whether all are strings of Unicode scalars without NUL, int64, finite doubles, booleans or None."""
    for value in values:
        kind = type(value)
        if kind is str:
            if "\0" in value or not (value.isascii() or _is_unicode(value)):
                return False
        elif kind is int:
            if not INT64_MIN <= value <= INT64_MAX:
                return False
        elif kind is float:
            if not isfinite(value):
                return False
        elif value is not None and kind is not bool:
            return False
    return True


def _picker(columns: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    if len(columns) == 1:
        name = columns[0]
        return lambda value: (value[name],)
    return itemgetter(*columns)


def _object_maker(columns: tuple[str, ...]) -> Callable[..., Any]:
    if any(map(_NEEDS_ESCAPE.search, columns)):
        return lambda *row: dict(zip(columns, row, strict=True))
    fields = [f"column{place}" for place in range(len(columns))]
    return msgspec.defstruct(
        "RowObject", [(name, Any) for name in fields], rename=dict(zip(fields, columns, strict=True)), gc=False
    )


def _strings(fields: dict[str, object], name: str) -> tuple[str, ...]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(type(item) is str for item in value):
        raise _bad_schema(f"{name} in the schema is {_show(value)}; it must be a list of strings")
    return tuple(value)


def _check_name(name: str, first: bool) -> None:
    if not name.strip() or len(name) > NAME_CHARACTERS_MAX or not storable((name,)):
        raise _bad_schema(
            f"the column name {_show(name)} must have 1 to {NAME_CHARACTERS_MAX} characters, not all spaces, and no NUL"
        )
    if not first:
        raise _bad_schema(f"the column {_show(name)} is there twice; names must differ")


def _check_key_column(name: str, dtype: str) -> None:
    if dtype.strip().lower() not in KEY_DTYPES:
        raise _bad_schema(f"the key column {name} has dtype {_show(dtype)}; the first column must be a Number")
    if name.lower() in KEY_NAMES_RESERVED:
        raise _bad_schema(f"the key column cannot be called {_show(name)}: requests have a field of that name")


def _explain(schema: Schema, value: object, where: str) -> ApiError:
    """Say what keeps a JSON value from being a row."""
    if not isinstance(value, dict):
        return ApiError("bad_value", f"{where} is {_show(value)}; a row must be an object")
    for name in value:
        if name not in schema.columns:
            return _unknown_column(schema, name, where)
    for name in schema.columns:
        if name not in value:
            return ApiError("missing_column", f"{where} lacks the column {name}; a row has {_names(schema)}")
    try:
        key_from_json(value[schema.key], schema.key, where)
        for name in schema.columns[1:]:
            _check_value(value[name], name, where)
    except ApiError as error:
        return error
    raise AssertionError(f"refused without a reason: {value!r}")


def _check_value(value: object, name: str, where: str) -> None:
    if storable((value,)):
        return
    if type(value) is int:
        right = f"integers must lie between {INT64_MIN} and {INT64_MAX}"
    elif type(value) is float:
        right = "numbers must be finite"
    elif type(value) is str:
        right = "strings must be valid Unicode without NUL"
    else:
        right = "values are strings, numbers, booleans or null"
    raise ApiError("bad_value", f"{name} in {where} is {_show(value)}; {right}")


def _unknown_column(schema: Schema, name: object, where: str) -> ApiError:
    return ApiError("unknown_column", f"{where} has the column {_show(name)}; the columns are {_names(schema)}")


def _bad_schema(text: str) -> ApiError:
    return ApiError("bad_schema", text)


def _names(schema: Schema) -> str:
    return ", ".join(schema.columns)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show(value: object, characters_max: int = 80) -> str:
    """Return a value as its sender wrote it, cut to a readable length, with nothing that an answer can't carry."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not -(1 << 256) < value < 1 << 256:
        return f"an integer of {value.bit_length()} bits"
    text = json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
    return text if len(text) <= characters_max else text[:characters_max] + "…"
