"""Files with faults by chance, and bounds on what reading them may take."""

import io
import re
import resource
import signal
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

SECONDS = 5  # of computing, for each file
ROOM = 1 << 30  # bytes that a reader may take beyond what the process has

NUMBERS = [
    b"-1", b"0", b"1e999", b"-1e-999", b"NaN", b"Infinity", b"nan", b"inf", b"1" + b"0" * 400, b"9" * 5000, b"0x10",
    b"1_0", b"18446744073709551616", b"-9223372036854775809", b"4294967296", b"1e308", b"2.5", b"true", b"null", b'"7"',
]  # fmt: skip
PIECES = [
    b"[" * 100_000, b"{" * 300, b'{"a":' * 5000, b"]", b"}", b"\0", b"\xff\xfe", b"\x1b[2J", b"../", b"/", b"\\", b",",
    b":", b'"', b"'", b"\n" * 50, b"\r", b"<a>" * 1000, b"&x;", b"<!DOCTYPE a [<!ENTITY x 'y'>]>", b"&a ", b"*a",
    b"!!int ", b"\\ud800", b"\xed\xa0\x80", "\u202e".encode(), b"x" * 100_000, b"null", b"true", b"{}", b"[]", b"- ",
    b"\t", b"  ",
]  # fmt: skip


def spoilt(content, rng):
    """The bytes with one or two faults."""
    for _ in range(rng.integers(1, 3)):
        content = FAULTS[rng.integers(len(FAULTS))](content, rng)
    return content


def spoilt_inside(content, rng):
    """A zip, one of whose members has faults, or a PNG with faults in a chunk; their checksums are right."""
    if rng.random() < 0.3:
        return spoilt(content, rng)
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            members = {name: packed.read(name) for name in packed.namelist()}
        name = list(members)[rng.integers(len(members))]
        members[name] = spoilt(members[name], rng)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as packed:
            for name, inner in members.items():
                packed.writestr(name, inner)
        return file.getvalue()
    chunks, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    which = rng.integers(len(chunks))
    kind, inner = chunks[which]
    if kind == b"IDAT" and rng.random() < 0.7:
        inner = zlib.compress(spoilt(zlib.decompress(inner), rng))
    else:
        inner = spoilt(inner, rng)
    chunks[which] = kind, inner
    parts = [len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4) for kind, data in chunks]
    return content[:8] + b"".join(parts)


def span(content, rng):
    """Start and end of a piece, often a small one."""
    start = int(rng.integers(0, len(content) + 1))
    return start, min(len(content), start + int(2 ** rng.uniform(0, 10)))


def flipped(content, rng):
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4)) if content else 0):
        changed[rng.integers(len(changed))] = rng.integers(256)
    return bytes(changed)


def cut(content, rng):
    return content[: rng.integers(0, len(content) + 1)]


def lost(content, rng):
    start, end = span(content, rng)
    return content[:start] + content[end:]


def repeated(content, rng):
    start, end = span(content, rng)
    return content[:start] + content[start:end] * int(rng.integers(2, 50)) + content[end:]


def moved(content, rng):
    start, end = span(content, rng)
    rest = content[:start] + content[end:]
    place = int(rng.integers(0, len(rest) + 1))
    return rest[:place] + content[start:end] + rest[place:]


def inserted(content, rng):
    place = int(rng.integers(0, len(content) + 1))
    return content[:place] + PIECES[rng.integers(len(PIECES))] + content[place:]


def renumbered(content, rng):
    """Another number, or what is none, where a number stands."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found:
        return content
    number = found[rng.integers(len(found))]
    return content[: number.start()] + NUMBERS[rng.integers(len(NUMBERS))] + content[number.end() :]


FAULTS = [flipped, cut, lost, repeated, moved, inserted, renumbered, renumbered]


@contextmanager
def bounded():
    """Time and memory."""

    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
