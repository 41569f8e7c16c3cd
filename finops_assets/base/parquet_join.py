"""A Parquet file out of another one's columns and new ones beside them: what is kept is copied as it lies, not decoded.

Facts are the raw day's rows with a few columns more. Decoding 70 columns only to encode them again was nine tenths of
the work. A column chunk stands in the file as a run of bytes that only the footer points to (Apache Parquet format,
"File format"), so that it can be copied, and a new footer written. The footer is Thrift in its compact protocol; what
it holds and this module does not know is carried along.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"PAR1"
COPIED_AT_ONCE = 8 << 20

Struct = dict[int, tuple[int, Any]]
"""A Thrift struct: field number -> (type, value). What stands within the description of a column chunk (statistics) is the
bytes in which it was read: nothing here looks into it, and it is half of a footer. So is the type of a column."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)

# Field numbers of the Parquet format's structs.
_SCHEMA, _NUM_ROWS, _ROW_GROUPS, _KEY_VALUES, _COLUMN_ORDERS = 2, 3, 4, 5, 7
_CHILD_NAME, _CHILDREN = 4, 5
_CHUNKS, _BYTES, _GROUP_ROWS, _SORTED, _GROUP_OFFSET, _COMPRESSED, _ORDINAL = 1, 2, 3, 4, 5, 6, 7
_CHUNK_OFFSET, _META, _PAGE_INDEX = 2, 3, (4, 5, 6, 7)
_META_DEPTH = 3  # file, row group, chunk, its description
_DEPTH_BELOW = {_SCHEMA: _META_DEPTH - 1, _COLUMN_ORDERS: _META_DEPTH}
"""Below which fields of the file's own struct as little is looked into, or less."""
_PATH, _CHUNK_BYTES, _CHUNK_COMPRESSED, _DATA_PAGE, _INDEX_PAGE, _DICTIONARY_PAGE, _BLOOM = 3, 6, 7, 9, 10, 11, (14, 15)


def join_columns(
    kept_from: Path, kept: Sequence[str], added: Path, target: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `target`: the columns `kept` of one file, then all columns of `added`; `metadata` are its key-value pairs.

    `added` must have row groups of the same numbers of rows. Page indexes and Bloom filters, which stand elsewhere in a
    file, are left behind; statistics are kept.

    Raises:
        ValueError: the row groups differ, or `kept` is not there.
    """
    one, other = _open(kept_from), _open(added)
    if missing := set(kept) - set(one.columns):
        raise ValueError(f"{kept_from} has no column {', '.join(sorted(missing))}")
    counts = [[g[_GROUP_ROWS][1] for g in footer.row_groups] for footer in (one, other)]
    if counts[0] != counts[1]:
        raise ValueError(f"{kept_from} and {added} do not have the same row groups: {counts[0]} and {counts[1]}")
    parts = [(one, frozenset(kept)), (other, frozenset(other.columns))]
    groups: list[Struct] = []
    with kept_from.open("rb") as first, added.open("rb") as second, target.open("wb") as out:
        out.write(MAGIC)
        for number, rows in enumerate(counts[0]):
            chunks: list[Struct] = []
            for file, (footer, wanted) in zip((first, second), parts):
                chunks += _copy_chunks(file, footer.row_groups[number], wanted, out)
            groups.append(_row_group(chunks, rows, number))
        _write_footer(out, parts, groups, metadata or {})


@dataclass(frozen=True)
class _Footer:
    body: Struct

    @property
    def row_groups(self) -> list[Struct]:
        return list(self.body[_ROW_GROUPS][1][1])

    @property
    def columns(self) -> dict[str, list[Struct]]:
        """Top-level column -> its schema elements, itself first."""
        elements = self.body[_SCHEMA][1][1]
        result: dict[str, list[Struct]] = {}
        at = 1  # the root stands first
        while at < len(elements):
            end = _end_of(elements, at)
            result[elements[at][_CHILD_NAME][1].decode()] = elements[at:end]
            at = end
        return result

    @property
    def column_orders(self) -> list[Struct] | None:
        return list(self.body[_COLUMN_ORDERS][1][1]) if _COLUMN_ORDERS in self.body else None


def _end_of(elements: list[Struct], at: int) -> int:
    """Where the subtree of a schema element ends; the tree is written depth first."""
    end = at + 1
    for _ in range(elements[at].get(_CHILDREN, (_I32, 0))[1]):
        end = _end_of(elements, end)
    return end


def _open(file: Path) -> _Footer:
    with file.open("rb") as stream:
        stream.seek(-8, 2)
        length, magic = struct.unpack("<I4s", stream.read(8))
        if magic != MAGIC:
            raise ValueError(f"{file} is not Parquet, or is cut off")
        stream.seek(-8 - length, 2)
        return _Footer(_read_struct(stream.read(length), 0)[0])


def _copy_chunks(file: BinaryIO, group: Struct, wanted: frozenset[str], out: BinaryIO) -> Iterator[Struct]:
    """Copy the wanted chunks of a row group behind what `out` holds; their descriptions, at their new place."""
    runs: list[list[int]] = []
    described = []
    end = out.tell()
    for chunk in group[_CHUNKS][1][1]:
        meta: Struct = chunk[_META][1]
        if meta[_PATH][1][1][0].decode() not in wanted:
            continue
        pages = [meta[n][1] for n in (_DICTIONARY_PAGE, _INDEX_PAGE, _DATA_PAGE) if n in meta and meta[n][1] > 0]
        start, length = min(pages), meta[_CHUNK_COMPRESSED][1]
        if runs and sum(runs[-1]) == start:
            runs[-1][1] += length
        else:
            runs.append([start, length])
        described.append(_moved(chunk, end - start))
        end += length
    for start, length in runs:
        file.seek(start)
        while length > 0:
            block = file.read(min(length, COPIED_AT_ONCE))
            if not block:
                raise ValueError("the file ends within a column chunk")
            out.write(block)
            length -= len(block)
    yield from described


def _moved(chunk: Struct, by: int) -> Struct:
    meta: Struct = {n: field for n, field in chunk[_META][1].items() if n not in _BLOOM}
    for n in (_DICTIONARY_PAGE, _INDEX_PAGE, _DATA_PAGE):
        if n in meta and meta[n][1] > 0:
            meta[n] = (_I64, meta[n][1] + by)
    moved = {n: field for n, field in chunk.items() if n not in _PAGE_INDEX}
    # Its meaning is deprecated, and writers disagree on it; 0 is what the format asks for.
    return moved | {_CHUNK_OFFSET: (_I64, 0), _META: (_STRUCT, meta)}


def _row_group(chunks: list[Struct], rows: int, number: int) -> Struct:
    metas = [chunk[_META][1] for chunk in chunks]
    group: Struct = {
        _CHUNKS: (_LIST, (_STRUCT, chunks)),
        _BYTES: (_I64, sum(m[_CHUNK_BYTES][1] for m in metas)),
        _GROUP_ROWS: (_I64, rows),
        _COMPRESSED: (_I64, sum(m[_CHUNK_COMPRESSED][1] for m in metas)),
    }
    if number < 2**15:
        group[_ORDINAL] = (_I16, number)
    return group


def _write_footer(
    out: BinaryIO,
    parts: Sequence[tuple[_Footer, frozenset[str]]],
    groups: list[Struct],
    metadata: Mapping[str, str],
) -> None:
    elements: list[Struct] = []
    orders: list[Struct] | None = []
    top = 0
    for footer, wanted in parts:
        leaf = 0
        for name, subtree in footer.columns.items():
            leaves = sum(1 for element in subtree if _CHILDREN not in element)
            if name in wanted:
                top += 1
                elements += subtree
                known = footer.column_orders
                orders = None if orders is None or known is None else orders + known[leaf : leaf + leaves]
            leaf += leaves
    first = parts[0][0]
    root = first.body[_SCHEMA][1][1][0] | {_CHILDREN: (_I32, top)}
    body = {n: field for n, field in first.body.items() if n not in (_KEY_VALUES, _COLUMN_ORDERS)}
    body[_SCHEMA] = (_LIST, (_STRUCT, [root, *elements]))
    body[_ROW_GROUPS] = (_LIST, (_STRUCT, groups))
    if orders is not None:
        body[_COLUMN_ORDERS] = (_LIST, (_STRUCT, orders))
    if metadata:
        pairs = [{1: (_BINARY, k.encode()), 2: (_BINARY, v.encode())} for k, v in metadata.items()]
        body[_KEY_VALUES] = (_LIST, (_STRUCT, pairs))
    written = bytearray()
    _write_struct(written, body)
    out.write(written)
    out.write(struct.pack("<I4s", len(written), MAGIC))


# Thrift's compact protocol. The lengths of a footer are known to fit: it was read by a reader of Parquet before.


def _read_varint(buffer: bytes, at: int) -> tuple[int, int]:
    byte = buffer[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = buffer[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7


def _read_struct(buffer: bytes, at: int, depth: int = 0) -> tuple[Struct, int]:
    result: Struct = {}
    number = 0
    while True:
        head = buffer[at]
        at += 1
        if head == 0:
            return result, at
        kind = head & 0x0F
        if head >> 4:
            number += head >> 4
        else:
            raw, at = _read_varint(buffer, at)
            number = (raw >> 1) ^ -(raw & 1)
        if kind <= _FALSE:
            result[number] = (kind, kind == _TRUE)
        else:
            value, at = _read_value(buffer, at, kind, depth or _DEPTH_BELOW.get(number, 0))
            result[number] = (kind, value)


def _read_value(buffer: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_I16, _I32, _I64):
        raw, at = _read_varint(buffer, at)
        return (raw >> 1) ^ -(raw & 1), at
    if kind == _BINARY:
        length, at = _read_varint(buffer, at)
        return buffer[at : at + length], at + length
    if kind == _STRUCT:
        if depth == _META_DEPTH:
            end = _end_of_struct(buffer, at)
            return buffer[at:end], end
        return _read_struct(buffer, at, depth + 1)
    if kind in (_LIST, _SET):
        head = buffer[at]
        at += 1
        count, element = head >> 4, head & 0x0F
        if count == 15:
            count, at = _read_varint(buffer, at)
        values = []
        for _ in range(count):
            value, at = _read_value(buffer, at, element, depth)
            values.append(value)
        return (element, values), at
    if kind in (_TRUE, _FALSE, _BYTE):  # within a list each stands in a byte of its own
        return buffer[at], at + 1
    if kind == _DOUBLE:
        return buffer[at : at + 8], at + 8
    raise ValueError(f"the footer holds a Thrift type that no Parquet footer has: {kind}")


def _end_of_struct(buffer: bytes, at: int) -> int:
    """Where a struct ends that begins here."""
    while head := buffer[at]:
        at += 1
        if not head >> 4:
            _, at = _read_varint(buffer, at)
        if (kind := head & 0x0F) > _FALSE:
            at = _end_of_value(buffer, at, kind)
    return at + 1


def _end_of_value(buffer: bytes, at: int, kind: int) -> int:
    if kind in (_I16, _I32, _I64):
        while buffer[at] > 0x7F:
            at += 1
        return at + 1
    if kind == _BINARY:
        length, at = _read_varint(buffer, at)
        return at + length
    if kind == _STRUCT:
        return _end_of_struct(buffer, at)
    return _read_value(buffer, at, kind, _META_DEPTH)[1]


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _write_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for number in sorted(fields):
        kind, value = fields[number]
        delta = number - last
        if 0 < delta < 16:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            _write_varint(out, number << 1)
        last = number
        if kind > _FALSE:
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (_I16, _I32, _I64):
        _write_varint(out, value << 1 if value >= 0 else ((-value) << 1) - 1)
    elif kind == _BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == _STRUCT:
        if isinstance(value, bytes):
            out += value
        else:
            _write_struct(out, value)
    elif kind in (_LIST, _SET):
        element, values = value
        if len(values) < 15:
            out.append(len(values) << 4 | element)
        else:
            out.append(0xF0 | element)
            _write_varint(out, len(values))
        for one in values:
            _write_value(out, element, one)
    elif kind == _DOUBLE:
        out += value
    else:
        out.append(value)
