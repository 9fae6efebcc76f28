"""TOML files read into typed structs, with errors that name file, line and the expected form."""

import re
import tomllib
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from ptstress.errors import UsageError

T = TypeVar("T")
Key = str | int
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-\" ]+?)\s*\]\]?\s*(?:#.*)?$")
_ENTRY = re.compile(r"\s*([\w.\-\"]+)\s*=")


def load_toml(path: Path, kind: type[T]) -> tuple[T, str]:
    """The file as ``kind``, and its text for ``find_line``. Raises ``UsageError``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: expected UTF-8 text: {error.reason} at byte {error.start}") from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(match[1]) if match else len(text.splitlines())
        reason = re.sub(r"\s*\(at .*\)", "", str(error))
        raise UsageError(f"{path}:{line}: not TOML: {reason}") from None
    try:
        return msgspec.convert(raw, kind), text
    except msgspec.ValidationError as error:
        _refuse(path, text, kind, str(error))


def find_line(text: str, key: tuple[Key, ...]) -> int:
    """Line of ``key``, such as ``("workers", 0, "mix")``, or of the nearest thing around it."""
    best_line, best_length = 1, 0
    prefix: tuple[Key, ...] = ()
    counts: dict[tuple[Key, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        entry = None if header else _ENTRY.match(line)
        if header:
            prefix = _header_key(header, counts)
            here = prefix
        elif entry:
            here = prefix + _split(entry[1])
        else:
            continue
        length = _common(here, key)
        if length > best_length and length == min(len(here), len(key)):
            best_line, best_length = number, length
    return best_line


def _header_key(header: re.Match[str], counts: dict[tuple[Key, ...], int]) -> tuple[Key, ...]:
    key: tuple[Key, ...] = ()
    parts = _split(header[2])
    for i, part in enumerate(parts):
        key += (part,)
        if header[1] == "[[" and i == len(parts) - 1:
            counts[key] = counts.get(key, -1) + 1
        if key in counts:
            key += (counts[key],)
    return key


def _split(dotted: str) -> tuple[Key, ...]:
    return tuple(part.strip().strip('"') for part in dotted.split("."))


def _common(a: tuple[Key, ...], b: tuple[Key, ...]) -> int:
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


def _refuse(path: Path, text: str, kind: type, message: str) -> NoReturn:
    """Turn msgspec's ``Expected `int`, got `str` - at `$.workers[0].share` `` into file, line and key."""
    reason, _, place = message.partition(" - at ")
    key = _place_key(place.strip("` "))
    unknown = re.search(r"unknown field `([^`]+)`", reason)
    if unknown:
        names = ", ".join(_fields_at(kind, key))
        reason = f"unknown key {unknown[1]!r}: expected one of {names}"
        key += (unknown[1],)
    else:
        reason = reason[0].lower() + reason[1:].replace("`", "")
        reason = reason.replace("object missing required field", "missing key")
        reason += _choices_at(kind, key) if "invalid enum value" in reason else ""
        named = ".".join(str(k) for k in key if isinstance(k, str))
        reason = f"{named}: {reason}" if named else reason
    raise UsageError(f"{path}:{find_line(text, key)}: {reason}")


def _place_key(place: str) -> tuple[Key, ...]:
    return tuple(int(index) if index else name for name, index in re.findall(r"([A-Za-z_]\w*)|\[(\d+)\]", place))


def _fields_at(kind: type, key: tuple[Key, ...]) -> list[str]:
    """Names of the fields of the struct that ``key`` leads to."""
    return [f.encode_name for f in _type_at(kind, key).fields]


def _choices_at(kind: type, key: tuple[Key, ...]) -> str:
    """The words that may stand at ``key``."""
    values = getattr(_type_at(kind, key), "values", ())
    return f": expected one of {', '.join(map(str, values))}" if values else ""


def _type_at(kind: type, key: tuple[Key, ...]) -> msgspec.inspect.Type:
    info = msgspec.inspect.type_info(kind)
    for part in key:
        if isinstance(part, int):
            info = info.item_type
        else:
            info = next(f.type for f in info.fields if f.encode_name == part)
        if isinstance(info, msgspec.inspect.UnionType):
            info = next(t for t in info.types if not isinstance(t, msgspec.inspect.NoneType))
    return info
