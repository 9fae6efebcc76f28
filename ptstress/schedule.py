"""Replay strings: one printable line that repeats one execution exactly.

A string is ``pts<format>_`` and base64url text of: length of the body, body, checksum. The body is a
deflated msgpack record; choices are run lengths in it. A string that was cut, altered, or made by another
format is refused with one line. It does not say whether this build can replay it: compare ``fingerprint``.
"""

import base64
import binascii
import hashlib
import re
import zlib

import msgspec

from ptstress.errors import UsageError

#: Goes up whenever an old string would be read wrongly.
FORMAT = 1

#: What an execution can come to, as the explorer calls it; one that was cut was not recorded.
OUTCOMES = ("pass", "violation", "deadlock", "livelock", "diverged", "race")
MAX_MAX_STEPS = 10_000_000

_CHECKSUM_BYTES = 6
_MAX_BODY_BYTES = 1 << 26
_MAX_CHOICES = 1 << 24


class Replay(msgspec.Struct, frozen=True, kw_only=True, array_like=True, forbid_unknown_fields=True):
    """All that one execution depends on, and what it led to."""

    #: Of the build that recorded it; choices mean nothing to code with other schedule points.
    fingerprint: str
    #: Text form of the program.
    program: str
    scheme: str
    #: Index bits of each level, from the pte_table up.
    geometry: tuple[int, ...]
    bugs: tuple[str, ...] = ()
    knobs: dict[str, int | str] = {}
    #: Of the execution, not of the exploration that found it.
    seed: int
    #: Fibre numbers, one byte each.
    choices: bytes
    #: Step bound of the execution; a livelock repeats only under the same one.
    max_steps: int = 20000
    #: What it led to: "violation", "deadlock", "livelock", "race", or "pass".
    outcome: str = "violation"
    #: Over its steps; 0 if unknown.
    trace_hash: int = 0
    #: The order of steps was all there was: no store was buffered, and nobody gave way at a yield point.
    steps_only: bool = False
    #: Of the engine, one of ``ptstress.vocabulary.EXPLORED``: what buffers no stores has fewer schedule points.
    build: str = "sched"
    #: Accesses that ordered nothing: module and line of each.
    weakened: tuple[tuple[str, int], ...] = ()
    #: Its outcome was looked up among those that the model allows.
    judged: bool = False


def encode(replay: Replay) -> str:
    """The replay string of one execution."""
    record = msgspec.structs.replace(replay, choices=pack_choices(replay.choices))
    deflate = zlib.compressobj(level=9, wbits=-15)
    body = deflate.compress(msgspec.msgpack.encode(record)) + deflate.flush()
    data = _varint(len(body)) + body
    return _prefix(FORMAT) + _to_text(data + _checksum(data))


def decode(text: str) -> Replay:
    """The execution of a replay string; white space in it is ignored.

    Raises UsageError with one line if the string is not one, was cut or altered, or has another format.
    """
    text = "".join(text.split())
    match = re.match(r"pts(\d{1,9})_", text)
    if match is None:
        raise UsageError(f"replay string: expected it to begin with '{_prefix(FORMAT)}', not {text[:8]!r}")
    if int(match.group(1)) != FORMAT:
        raise UsageError(f"replay string: it has format {int(match.group(1))}, this ptstress reads format {FORMAT}")
    body = _checked_body(text[match.end():])
    inflate = zlib.decompressobj(wbits=-15)
    try:
        record = msgspec.msgpack.decode(inflate.decompress(body, _MAX_BODY_BYTES), type=Replay)
        _refuse_nonsense(record)
        return msgspec.structs.replace(record, choices=unpack_choices(record.choices))
    except (zlib.error, msgspec.MsgspecError, ValueError) as err:
        raise UsageError(f"replay string: its checksum is right but its content is not: {err}") from None


def _refuse_nonsense(record: Replay) -> None:
    """Raises ValueError if a field has a value that no execution can have. Names are looked up by whoever needs them."""
    numbers = {name: value for name, value in record.knobs.items() if isinstance(value, int)}
    limits = (
        ("seed", 0 <= record.seed < 1 << 64, f"a whole number below 2^64, not {record.seed}"),
        ("max_steps", 1 <= record.max_steps <= MAX_MAX_STEPS, f"1 to {MAX_MAX_STEPS}, not {record.max_steps}"),
        ("geometry", 3 <= len(record.geometry) <= 5 and all(1 <= bits <= 9 for bits in record.geometry),
         f"3 to 5 levels of 1 to 9 bits, not {record.geometry}"),
        ("knobs", all(0 <= value < 1 << 32 for value in numbers.values()), f"whole numbers below 2^32, not {numbers}"),
        ("outcome", record.outcome in OUTCOMES, f"one of {', '.join(OUTCOMES)}, not {record.outcome!r}"),
    )
    for name, good, expected in limits:
        if not good:
            raise ValueError(f"{name}: expected {expected}")


def pack_choices(choices: bytes) -> bytes:
    """Run lengths: the number n of fibres, then for each run ``(length - 1) * n + fibre``, all as varints."""
    fibres = max(choices, default=0) + 1
    packed = bytearray(_varint(fibres))
    begin = 0
    while begin < len(choices):
        end = begin + 1
        while end < len(choices) and choices[end] == choices[begin]:
            end += 1
        packed += _varint((end - begin - 1) * fibres + choices[begin])
        begin = end
    return bytes(packed)


def unpack_choices(packed: bytes) -> bytes:
    """The choices that ``pack_choices`` packed. Raises ValueError if there are none such."""
    numbers = _varints(packed)
    if not numbers or not 1 <= numbers[0] <= 256:
        raise ValueError("no list of choices")
    fibres = numbers[0]
    if sum(number // fibres + 1 for number in numbers[1:]) > _MAX_CHOICES:
        raise ValueError(f"more than {_MAX_CHOICES} choices")
    return b"".join(bytes([number % fibres]) * (number // fibres + 1) for number in numbers[1:])


def _checked_body(text: str) -> bytes:
    data = _from_text(text)
    try:
        length, begin = _read_varint(data, 0)
    except ValueError:
        raise UsageError("replay string: it is cut: nothing follows its prefix") from None
    expected = begin + length + _CHECKSUM_BYTES
    if len(data) < expected:
        raise UsageError(f"replay string: it is cut or altered: {len(data)} of {expected} bytes are there")
    if len(data) > expected:
        raise UsageError(f"replay string: it is altered: {len(data) - expected} bytes too many")
    # Decoding drops the spare bits of the last character.
    if _checksum(data[:-_CHECKSUM_BYTES]) != data[-_CHECKSUM_BYTES:] or _to_text(data) != text:
        raise UsageError("replay string: it is altered: its checksum does not match")
    return data[begin:-_CHECKSUM_BYTES]


def _prefix(version: int) -> str:
    return f"pts{version}_"


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(_prefix(FORMAT).encode() + data, digest_size=_CHECKSUM_BYTES).digest()


def _to_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _from_text(text: str) -> bytes:
    bad = re.search(r"[^A-Za-z0-9_-]", text)
    if bad is not None:
        raise UsageError(f"replay string: it is altered: {bad.group()!r} cannot occur in it")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise UsageError("replay string: it is cut: its last character is missing") from None


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and the offset behind it. Raises ValueError at the end of the data."""
    number = shift = 0
    while at < len(data) and shift < 64:
        number |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number is cut")


def _varints(data: bytes) -> list[int]:
    numbers: list[int] = []
    at = 0
    while at < len(data):
        number, at = _read_varint(data, at)
        numbers.append(number)
    return numbers
