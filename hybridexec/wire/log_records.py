"""Log records on their way from a worker to its parent, as bytes.

Thread: in the worker, the one that logs; in the parent, the one that handles records.
Guarantees: whatever a record holds, only plain values travel: the message with its arguments
merged, the traceback as text, attributes that are plain as they are, others as their text.
"""

from __future__ import annotations

import logging
import marshal
from typing import Any

#: What travels of each record as it is, in this order.
_FIELDS = (
    "name",
    "levelno",
    "levelname",
    "pathname",
    "filename",
    "module",
    "lineno",
    "funcName",
    "created",
    "msecs",
    "thread",
    "threadName",
    "processName",
    "process",
    "stack_info",
    "taskName",
)
#: What every record has, or gets from a formatter; other attributes are the user's.
_USUAL = frozenset(logging.makeLogRecord({}).__dict__) | {*_FIELDS, "asctime", "message"}
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
#: How deep lists and the like may be nested in an attribute.
_DEPTH = 4
#: Characters of the longest message, traceback or other text; of an attribute that is not plain.
_MOST_TEXT, _MOST_ATTRIBUTE = 64 * 1024, 1000

_formatter = logging.Formatter()


def pack(record: logging.LogRecord, call: str) -> bytes:
    """The record as bytes.

    Args:
        call: the call that has made it, in a few words.

    Raises:
        Exception: what its message's arguments or their types raise.
    """
    given = record.__dict__
    values = [*map(given.get, _FIELDS)]
    if not _PLAIN.issuperset(map(type, values)):
        values = [*map(_carried, values)]
    error = given.get("exc_text")
    if not error and record.exc_info:
        error = _formatter.formatException(record.exc_info)
    names = given.keys() - _USUAL
    extras = {name: _carried(given[name]) for name in names if type(name) is str}
    text = _cut(record.getMessage(), _MOST_TEXT)
    return marshal.dumps((values, text, error and _cut(error, _MOST_TEXT), call, extras), 2)


def unpack(packed: bytes, worker: int, node: str = "") -> logging.LogRecord:
    """The record that these bytes stand for, with the attributes ``worker``, ``node`` and ``call``,
    unless it has its own of these names."""
    values, text, error, call, extras = marshal.loads(packed)
    record = logging.makeLogRecord({})
    made = record.created
    attributes: dict[str, Any] = dict(zip(_FIELDS, values, strict=True))
    if attributes["taskName"] is None and not hasattr(record, "taskName"):
        del attributes["taskName"]
    attributes |= {"worker": worker, "node": node, "call": call}
    record.__dict__.update(attributes, msg=text, exc_text=error)
    record.relativeCreated -= 1000 * (made - record.created)
    record.__dict__.update(extras)
    return record


def _carried(value: Any, depth: int = _DEPTH) -> Any:
    """A value that travels in place of this one: itself if it is plain, else its text."""
    kind = type(value)
    if kind in _PLAIN:
        return _cut(value, _MOST_TEXT) if kind is str or kind is bytes else value
    if depth and (kind is list or kind is tuple):
        return kind([_carried(item, depth - 1) for item in value])
    if depth and kind is dict:
        return {_carried(key, 0): _carried(item, depth - 1) for key, item in value.items()}
    # Numbers and texts of a class of their own, an enumeration's say, are what they are.
    for base in (int, float, str):
        if isinstance(value, base):
            return _carried(base(value), 0)
    return _cut(str(value), _MOST_ATTRIBUTE)


def _cut(text: Any, most: int) -> Any:
    if len(text) <= most:
        return text
    return text[:most] + ("... (cut)" if type(text) is str else b"... (cut)")
