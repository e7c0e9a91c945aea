"""Changes of bytes and of text, drawn from a random.Random: the same draws give the same changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random

EDGES = [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 511, 512, 4095, 4096, 32767, 32768,
         65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 53, 1 << 62,
         (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
NUMBERS = ["0", "1", "-1", "2", "3", "0.5", "-0.0", "1e-45", "1e38", "1e39", "1e308", "1e309", "-1e309", "nan", "inf",
           "-inf", "99999", "1000000", "2147483647", "2147483648", "-2147483648", "4294967296", "9223372036854775807",
           "1" + "0" * 30, "1" + "0" * 5000, "0x7fffffff", "017", "1e", "--1", "1_0"]
PIECES = ["{", "}", "[", "]", "(", ")", "<", ">", ":", ",", ";", '"', "'", "\\", '"a\\"', "\n", "\t", "#", "\x00",
          "\x1b[31m", "\x7f", "é", "\u2028", "-", "true", "null", "NaN", '""', "MAX", "TRAIN", "\\ud800"]
LARGE = 1 << 20  # bytes to which an input may grow
SELDOM = 0.004  # how many of the repeats grow that far: one such file can take as long as a thousand others
LENGTHS = [1, 1, 2, 4, 8, 16, 64, 512, 4096]
_TOKEN = re.compile(r'"[^"\n]*"|[A-Za-z_]\w*|[-+]?[\d.]+(?:[eE][-+]?\d+)?|\s+|.', re.DOTALL)
_IS_NUMBER = re.compile(r"[-+]?[\d.]")

Op = Callable[[Random, bytearray, int, Sequence[bytes]], None]  # the place to change, and other files to take from


def integer(random: Random) -> int:
    """A number at which readers go wrong, or any."""
    if random.random() < 0.8:
        return random.choice(EDGES) + random.choice((0, 0, 0, -1, 1))
    return random.getrandbits(random.choice((8, 16, 32, 64)))


def mutate_bytes(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A few changes, more of them near the beginning, where headers are."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 12))):
        if not out:
            out += random.randbytes(8)
        at = random.randrange(len(out))
        if random.random() < 0.4:
            at = min(at, int(random.expovariate(1 / 40)))
        random.choice(_OPS)(random, out, at, others)
    return bytes(out)


def _flip(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    out[at] ^= 1 << random.randrange(8)


def _set(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    out[at] = random.choice((0, 1, 2, 3, 127, 128, 254, 255, random.getrandbits(8)))


def _step(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    out[at] = (out[at] + random.choice((1, -1, 2, -2, 16))) & 255


def _cut(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    del out[at:]


def _delete(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    del out[at : at + random.choice(LENGTHS)]


def _repeat(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    """Now and then so often that what takes quadratic time shows."""
    piece = out[at : at + random.choice(LENGTHS)]
    times = 1 << 20 if random.random() < SELDOM else random.choice((1, 1, 1, 2, 50, 500))
    most = LARGE if times > 500 else LARGE // 16
    out[at:at] = piece * min(times, max(1, most // len(piece)))


def _number(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    width = random.choice((1, 2, 4, 4, 8, 8))
    at -= at % random.choice((1, 2, 4, 8))
    value = integer(random) & ((1 << 8 * width) - 1)
    out[at : at + width] = value.to_bytes(width, random.choice(("little", "little", "big")))


def _varint(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    out[at : at + 1] = varint(integer(random))


def _splice(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    other = random.choice(others)
    begin = random.randrange(len(other)) if other else 0
    piece = other[begin : begin + random.choice(LENGTHS)]
    out[at : at + random.choice((0, len(piece)))] = piece


def _copy(random: Random, out: bytearray, at: int, others: Sequence[bytes]) -> None:
    begin = random.randrange(len(out))
    piece = out[begin : begin + random.choice((4, 8, 16, 64))]
    out[at : at + len(piece)] = piece


_OPS: Sequence[Op] = (_flip, _set, _step, _cut, _delete, _repeat, _number, _number, _number, _varint, _splice, _copy)


def mutate_text(random: Random, text: str, others: Sequence[str]) -> str:
    """A few changes of whole tokens: numbers, words, brackets."""
    seed, words = _tokens(text)
    tokens = list(seed)
    for change in range(random.choice((1, 1, 1, 2, 3, 5))):
        places = [i for i, token in enumerate(tokens) if token.strip()] if change else words
        if not places:
            return random.choice(PIECES)
        at, kind = random.choice(places), random.randrange(10)
        if kind < 4:
            numbers = [i for i in places if _IS_NUMBER.match(tokens[i])]
            tokens[random.choice(numbers or places)] = (
                random.choice(NUMBERS) if random.random() < 0.8 else str(random.randrange(-5, 40)))
        elif kind == 4:
            del tokens[at : at + random.choice((1, 1, 2, 5, 20))]
        elif kind == 5:
            piece = tokens[at : at + random.choice((1, 2, 5, 20, 60))]
            times = LARGE if random.random() < SELDOM else random.choice((1, 1, 2, 100))
            tokens[at:at] = piece * min(times, max(1, LARGE // max(1, sum(map(len, piece)))))
        elif kind == 6:
            other, _ = _tokens(random.choice(others))
            begin = random.randrange(len(other)) if other else 0
            tokens[at:at] = other[begin : begin + random.choice((1, 3, 10, 40))]
        elif kind == 7:
            tokens[at] = random.choice(PIECES) * random.choice((1, 1, 1, 2, 300))
        elif kind == 8:
            other = random.choice(places)
            tokens[at], tokens[other] = tokens[other], tokens[at]
        else:
            word = tokens[at]
            i = random.randrange(len(word))
            tokens[at] = word[:i] + random.choice(PIECES) + word[i + 1 :]
    return "".join(tokens)


@lru_cache(1024)
def _tokens(text: str) -> tuple[Sequence[str], Sequence[int]]:
    """The tokens of a seed, and where those stand that are not blank."""
    tokens = _TOKEN.findall(text)
    return tokens, [i for i, token in enumerate(tokens) if token.strip()]


def mutate_message(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A protobuf message with one field changed, at any depth; the lengths around it fit again."""
    fields = _fields(data)
    if not fields:
        return mutate_bytes(random, data or b"\0", others)
    at = random.randrange(len(fields))
    tag, body = fields[at]
    kind = random.randrange(8)
    if tag & 7 == 2 and kind < 5:
        change = mutate_message if _fields(body) and random.random() < 0.8 else mutate_bytes
        fields[at] = (tag, change(random, body, others))
    elif kind == 5:
        most = max(1, LARGE // (len(body) + 2))
        fields[at:at] = [fields[at]] * min(most, LARGE if random.random() < SELDOM else random.choice((1, 1, 2, 40)))
    elif kind == 6:
        del fields[at]
    elif tag & 7 == 0:
        fields[at] = (tag, varint(integer(random)))
    else:
        other = random.choice(fields)
        fields[at] = (other[0] if random.random() < 0.5 else tag ^ 8, body)
    return b"".join(varint(tag) + (varint(len(body)) if tag & 7 == 2 else b"") + body for tag, body in fields)


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of each field; none where it is no message."""
    fields, at = [], 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag & 7 == 0:
            _, end = _read_varint(data, at)
        elif tag & 7 == 2:
            size, at = _read_varint(data, at)
            end = at + size
        else:
            end = at + {1: 8, 5: 4}.get(tag & 7, len(data))
        if not 0 < tag >> 3 < 1 << 20 or end > len(data):
            return []
        fields.append((tag, data[at:end]))
        at = end
    return fields


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, place behind it); a place behind the end where it does not end."""
    number = shift = 0
    while at < len(data) and shift < 70:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at
    return 0, len(data) + 1


def varint(number: int) -> bytes:
    """A number as protobuf and LevelDB write it."""
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
