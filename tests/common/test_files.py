"""Files that appear whole or not at all."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from paths import TESTS

from rmpe_legacy.errors import FileError
from rmpe_legacy.files import all_or_none, check_places, kind_of_file, make_folder, whole_file, write_together


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_space(*_args):
    raise OSError(28, "No space left on device")


def test_a_fifo_has_no_kind_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    both = os.open(tmp_path / "pipe", os.O_RDWR)  # so that opening and reading would not block
    try:
        os.write(both, b"text")
        assert kind_of_file(tmp_path / "pipe") == ""
        assert os.read(both, 9) == b"text"
    finally:
        os.close(both)


def test_a_file_appears_at_the_end(tmp_path):
    with whole_file(tmp_path / "a.txt", "w") as file:
        file.write("é")
        assert not (tmp_path / "a.txt").exists()
    assert listing(tmp_path) == {"a.txt": "é".encode()}
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]  # the hidden folder has gone


def test_it_has_the_usual_permissions(tmp_path):
    with whole_file(tmp_path / "a") as file:
        file.write(b"1")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_an_exception_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def write_and_fail():
        with all_or_none(tmp_path / "a", tmp_path / "b") as [a, b]:
            a.write_bytes(b"new")
            b.write_bytes(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    assert listing(tmp_path) == {"a": b"old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_failure_to_rename_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(FileError, match="a: cannot be written: No space left on device"), \
            whole_file(tmp_path / "a") as file:
        file.write(b"new")
    assert listing(tmp_path) == {"a": b"old"}


def test_files_in_several_folders(tmp_path):
    (tmp_path / "deep").mkdir()
    with all_or_none(tmp_path / "a", tmp_path / "deep" / "b") as places:
        for place in places:
            place.write_bytes(place.name.encode())
    assert listing(tmp_path) == {"a": b"a", "deep/b": b"b"}


def test_a_file_that_was_never_written_is_an_error(tmp_path):
    with pytest.raises(FileError, match="cannot be written: No such file"), all_or_none(tmp_path / "a", tmp_path / "b"):
        pass
    assert listing(tmp_path) == {}


def test_together_into_a_folder_that_is_made(tmp_path):
    write_together(tmp_path / "x" / "y", {"a": b"1", "b": b"2"})
    assert listing(tmp_path) == {"x/y/a": b"1", "x/y/b": b"2"}


def test_together_all_or_none(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match="folder: is a folder"):
        write_together(tmp_path, {"a": b"new", "folder": b"new"})
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(FileError, match=f"{tmp_path}: cannot be written: No space left on device"):
        write_together(tmp_path, {"a": b"new", "b": b"new"})
    with pytest.raises(FileError, match="b: cannot be written: No space left on device"):
        write_together(tmp_path, {"b": b"new"})
    assert {path.name for path in tmp_path.iterdir()} == {"a", "folder"}
    assert listing(tmp_path) == {"a": b"old"}


def test_together_through_a_link(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to("deep/file")
    write_together(tmp_path, {"link": b"text", "b": b"more"})
    assert (tmp_path / "link").is_symlink()
    assert listing(tmp_path) == {"link": b"text", "b": b"more", "deep/file": b"text"}


def test_together_with_a_disk_that_fills_up(tmp_path, monkeypatch):
    """A hidden file that was half written goes away with the error."""
    monkeypatch.setattr("rmpe_legacy.files.memoryview", no_space, raising=False)
    with pytest.raises(FileError, match="a: cannot be written: No space left on device"):
        write_together(tmp_path, {"a": b"1"})
    assert list(tmp_path.iterdir()) == []


def test_together_sweeps_what_a_killed_process_left(tmp_path):
    code = ("import os, sys; from rmpe_legacy import files\n"
            "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
            "files.write_together(sys.argv[1], {'a': b'1'})")
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    [left] = tmp_path.iterdir()
    assert left.is_file()
    write_together(tmp_path, {"b": b"2"})
    assert listing(tmp_path) == {"b": b"2"}


def test_places_are_checked_before_the_work(tmp_path):
    with pytest.raises(FileError, match="is a folder; give the name of a file in it"):
        check_places(tmp_path)
    with pytest.raises(FileError, match=r"there is no folder .*no; make it first"):
        check_places(tmp_path / "no" / "a")


@pytest.mark.parametrize("links", [{"a": "a"}, {"a": "b", "b": "a"}], ids=["itself", "two"])
def test_links_that_lead_back_to_themselves_are_refused(tmp_path, links):
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    with pytest.raises(FileError, match=r"a: is a symbolic link that leads back to itself; remove it, or give another"):
        check_places(tmp_path / "a")
    with pytest.raises(FileError, match="leads back to itself"), whole_file(tmp_path / "a"):
        pass
    assert {name: os.readlink(tmp_path / name) for name in links} == links
    assert set(os.listdir(tmp_path)) == set(links)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("deep/file")
    (tmp_path / "new").symlink_to("deep/none")
    for name in ("link", "new"):
        with whole_file(tmp_path / name) as file:
            file.write(b"text")
    assert listing(tmp_path / "deep") == {"file": b"text", "none": b"text"}
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").is_symlink()


def test_a_fifo_is_written_through(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_bytes()))
    reader.start()
    with whole_file(tmp_path / "fifo") as file:
        file.write(b"content")
    reader.join(10)
    assert read == [b"content"]
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_device_is_written_through():
    with whole_file("/dev/null") as file:
        file.write(b"content")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(FileError, match="/dev/full: cannot be written: No space left on device"), \
            whole_file("/dev/full") as file:
        file.write(b"content")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_dash_is_standard_output(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    with whole_file("-") as file:
        file.write(b"content")
    assert capfdbinary.readouterr().out == b"content"
    assert listing(tmp_path) == {}


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        with pytest.raises(FileError, match="is a socket, which is never written to"):
            check_places(tmp_path / "socket")


@pytest.mark.parametrize(("content", "kind"), [
    (b"", ""), (b"layer {}", "text"), ("é".encode() * 3000, "text"), (b"<!DOCTYPE html>", "HTML"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"\xff\xd8\xff\xe0", "a JPEG image"), (b"caf\xe9", "text"),
    (b"\x0a\x04\xff\0", "binary data"),
    (b"\x10\0\0\0\0\0\0\0{}", "safetensors"),
])
def test_the_kind_of_a_file(tmp_path, content, kind):
    (tmp_path / "file").write_bytes(content)
    assert kind_of_file(tmp_path / "file") == kind


def test_the_kinds_of_archives(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(2))
    torch.save({"x": torch.zeros(2)}, tmp_path / "a.pt")
    shutil.make_archive(str(tmp_path / "a"), "zip", TESTS / "native")
    kinds = [kind_of_file(tmp_path / name) for name in ("a.npz", "a.pt", "a.zip")]
    assert kinds == ["an .npz of arrays", "a PyTorch file", "a zip archive"]


def test_a_file_of_another_kind_is_kept(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(FileError, match=r"photo.jpg: is there already and holds a JPEG image, not text"):
        write_together(tmp_path, {"other": b"text", "photo.jpg": b"text"})
    assert listing(tmp_path) == {"photo.jpg": b"\xff\xd8\xff\xe0"}


def test_what_a_killed_process_left_is_swept(tmp_path):
    code = ("import os, sys; from rmpe_legacy.files import whole_file\n"
            "with whole_file(sys.argv[1]) as file: file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)")
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "a"], check=False).returncode == -9
    [left] = tmp_path.iterdir()
    assert left.name.endswith(".part")
    mine = tmp_path / left.name.replace(f"-{left.name.rsplit('-', 2)[1]}-", f"-{os.getpid()}-")
    mine.mkdir()
    with whole_file(tmp_path / "a") as file:
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, "a"])


def test_the_hidden_folder_can_be_read_by_nobody_else(tmp_path):
    with all_or_none(tmp_path / "a") as [place]:
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        place.write_bytes(b"")


UNSEEN = {"long": ("a" * 300, "File name too long"), "null": ("a\0b", "null byte")}


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.parametrize("below", [".", "a.txt"])
def test_a_place_that_cannot_be_looked_at_is_a_sentence(name, below, tmp_path):
    """As a folder that its user may not search; pathlib's questions raise OSError there."""
    part, reason = UNSEEN[name]
    for use in (check_places, make_folder, lambda path: write_together(path, {"b": b""})):
        with pytest.raises(FileError, match=f"cannot be written: .*{reason}"):
            use(tmp_path / part / below)
    with pytest.raises(FileError, match=f"cannot be written: .*{reason}"), whole_file(tmp_path / part / below):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_a_folder_of_another_user_is_a_sentence():
    with tempfile.TemporaryDirectory() as own:  # nobody else may search it
        os.seteuid(65534)
        try:
            for use in (check_places, make_folder):
                with pytest.raises(FileError, match="in/a: cannot be written: Permission denied"):
                    use(Path(own) / "in" / "a")
        finally:
            os.seteuid(0)
