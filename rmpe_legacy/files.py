"""Writes files whole or not at all: hidden next to the destination, then renamed.

Special files keep their kind: a device or a FIFO is written to, the target of a symbolic link is replaced and the link
stays, and "-" is standard output.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from .errors import FileError

STDOUT = "-"
_SUFFIX = ".part"
_CONTROL = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))
_ERRNO = re.compile(r"(?:errno = |os error |Errno )(\d+)")

# First bytes of a file -> its kind.
_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x80\x02", "a pickle"),
)


@contextmanager
def all_or_none(*paths: str | os.PathLike) -> Iterator[list[Path]]:
    """Write several files that appear together when the block ends without an exception.

    Yields one path for each of `paths`, with the same file name, in a hidden folder. After an exception nothing new
    is left behind, and files that were there before are unchanged. A file is only replaced by one of the same
    `kind_of_file`. Raises FileError if a file cannot be written.
    """
    check_places(*paths)
    targets = [_final(path) for path in paths]
    hidden: dict[Path | None, Path] = {}  # folder -> the hidden one in it; None: for what is written through
    try:
        with _as_file_errors(targets[0].parent if len(targets) > 1 else next(iter(paths), "")):
            for folder in dict.fromkeys(map(_folder, targets)):
                if folder is not None:
                    _sweep(folder)
                hidden[folder] = Path(tempfile.mkdtemp(_SUFFIX, f"{_hidden_prefix()}{os.getpid()}-", folder))
            places = [hidden[_folder(target)] / target.name for target in targets]
            yield places
            _publish(places, targets)
    finally:
        for folder in hidden.values():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def whole_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """Open one file for writing, as `all_or_none`. mode: "wb", or "w" for text (UTF-8)."""
    with all_or_none(path) as [place], open(place, mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file


def write_together(folder: str | os.PathLike, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made if missing: name -> content, all of them or none."""
    folder = Path(folder)
    make_folder(folder)
    targets = [folder / name for name in files]
    if any(map(_is_special, targets)):
        with all_or_none(*targets) as places:
            for place, content in zip(places, files.values(), strict=True):
                place.write_bytes(content)
        return
    _sweep(folder)
    hidden: list[Path] = []
    try:
        with _as_file_errors(targets[0] if len(targets) == 1 else folder):
            for content in files.values():
                hidden.append(_hidden_file(folder, content))
            _publish(hidden, targets)
    finally:
        for place in hidden:
            with suppress(OSError):
                os.unlink(place)


@contextmanager
def _as_file_errors(what: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader of our output is gone; the command line exits quietly
        raise
    except OSError as error:
        raise FileError(f"{what}: cannot be written: {error.strerror or error}") from None


def _publish(places: Sequence[Path], targets: Sequence[Path]) -> None:
    """Bring hidden files to their targets, if none of these is a file of another kind."""
    for place, target in zip(places, targets, strict=True):
        _refuse_other_kind(place, target)
    for place, target in zip(places, targets, strict=True):
        if _folder(target) is None:
            _write_through(place, target)
        else:
            os.replace(place, target)


def _is_special(target: Path) -> bool:
    """Whether a target is standard output, or something is there that is not a regular file."""
    if str(target) == STDOUT:
        return True
    try:
        return not stat.S_ISREG(os.lstat(target).st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _hidden_file(folder: Path, content: bytes) -> Path:
    """Write a hidden file, and return its path."""
    path = folder / f"{_hidden_prefix()}{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
    try:
        with open(path, "xb", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left):]
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise
    return path


def make_folder(folder: Path) -> None:
    """Make a folder and its parents unless they exist. Raises FileError if that fails."""
    if stat.S_ISDIR(_mode(folder)):
        return
    _refuse_file(folder)
    with _as_file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _refuse_file(folder: Path) -> None:
    """Raise FileError if a file stands where a folder, or a parent of it, is to be."""
    for place in (folder, *folder.parents):
        if os.path.exists(place):
            if not os.path.isdir(place):
                raise FileError(f"{place}: is a file; give the name of a folder")
            return


def check_places(*paths: str | os.PathLike) -> None:
    """Raise FileError if no file can be written under these names; called before long work."""
    for path in map(Path, paths):
        if str(path) == STDOUT:
            continue
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            raise FileError(f"{path}: is a folder; give the name of a file in it, or remove it")
        if stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
            what = "a block device" if stat.S_ISBLK(mode) else "a socket"
            raise FileError(f"{path}: is {what}, which is never written to; give the name of a file")
        target = _final(path)
        if os.path.islink(target):  # realpath stops where links go around
            raise FileError(f"{path}: is a symbolic link that leads back to itself; remove it, or give another name")
        if not stat.S_ISDIR(_mode(target.parent)):
            raise FileError(f"{path}: there is no folder {target.parent}; make it first")


def is_same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Return whether both paths lead to one file or folder that exists, so that writing one would replace the other."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _mode(path: Path) -> int:
    """Return the kind and the permissions of what a path leads to; 0 if nothing is there.

    Raises FileError if the path cannot be looked at: a folder may not be searched, or a name is too long.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        if error.errno == errno.ELOOP:
            return 0
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from None
    except ValueError as error:  # a null character
        raise FileError(f"{path}: cannot be written: {error}") from None


@contextmanager
def as_os_errors(*further: type[Exception]) -> Iterator[None]:
    """Convert a library's exceptions while writing a file, for example on a full disk, to OSError.

    torch and h5py raise RuntimeError with the error number in the text; `further` are similar exceptions of other
    libraries.
    """
    kinds: tuple[type[Exception], ...] = (RuntimeError, OSError, *further)
    try:
        yield
    except kinds as error:
        number = _ERRNO.search(f"{error} {error.__context__}")  # the first failure; what follows says something else
        if number is None:
            raise OSError(str(error).partition("\n")[0]) from error
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def is_binary(start: bytes) -> bool:
    """Whether a file is not text, by its first bytes: several nulls, or more than one control character in 50.

    A small caffemodel may contain no null, and a prototxt may contain a stray one, or be in UTF-16.
    """
    controls = len(start) - len(start.translate(None, _CONTROL))
    return (start.count(0) > 3 or 50 * controls > len(start)) and not is_utf16(start)


def is_utf16(start: bytes) -> bool:
    """Whether a file begins as text in UTF-16 does: with a byte order mark, or with plain ASCII characters."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    start = start[: min(len(start), 64) // 2 * 2]
    texts = [start.decode(order, "replace") for order in ("utf-16-le", "utf-16-be")]
    return any(text and text.isascii() and "\0" not in text for text in texts)


def kind_of_file(path: Path) -> str:
    """Return a file's kind by its first bytes: "a PNG image", "text", ...; "" for an empty or missing file,
    and for what is no regular file: a FIFO would be waited for."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError:
        return ""
    if not start:
        return ""
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_archive(start)
    if not is_binary(start):
        return "HTML" if start.lstrip().lower().startswith((b"<!doctype", b"<html")) else "text"
    return "safetensors" if start[8:9] == b"{" else "binary data"


def _kind_of_archive(start: bytes) -> str:
    """Return the kind of a zip archive by the name of its first member."""
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    if name.endswith(b".npy"):
        return "an .npz of arrays"
    return "a PyTorch file" if name.endswith((b"/data.pkl", b"/.format_version", b"/byteorder")) else "a zip archive"


def _final(path: str | os.PathLike) -> Path:
    """Return the target of a symbolic link, or the path itself."""
    path = Path(path)
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def _folder(target: Path) -> Path | None:
    """Return the folder in which a target is replaced; None if its bytes are written to an existing special file."""
    if str(target) == STDOUT:
        return None
    try:
        regular = stat.S_ISREG(target.stat().st_mode)
    except OSError:
        regular = True  # it is not there yet
    return target.parent if regular else None


def _write_through(place: Path, target: Path) -> None:
    with open(place, "rb") as source:
        if str(target) == STDOUT:
            shutil.copyfileobj(source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with open(target, "wb") as node:
                shutil.copyfileobj(source, node)


def _refuse_other_kind(place: Path, target: Path) -> None:
    if _folder(target) is None:
        return
    old = kind_of_file(target)
    new = kind_of_file(place) if old else ""
    if old and new and old != new:
        raise FileError(f"{target}: is there already and holds {old}, not {new}; give another name, or remove it first")


@cache
def _hidden_prefix() -> str:
    return f".rmpe-{socket.gethostname()}-"


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left hidden; runs once per process and folder."""
    prefix = _hidden_prefix()
    with os.scandir(folder) as entries:
        left = [entry for entry in entries if entry.name.startswith(prefix) and entry.name.endswith(_SUFFIX)]
    for entry in left:
        pid = entry.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
