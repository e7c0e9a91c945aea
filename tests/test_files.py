"""Files that appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from rmpe_legacy.errors import FileError
from rmpe_legacy.files import all_or_none, check_places, whole_file, write_together


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_space(*_args):
    raise OSError(28, "No space left on device")


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


def test_places_are_checked_before_the_work(tmp_path):
    with pytest.raises(FileError, match="is a folder; give the name of a file in it"):
        check_places(tmp_path)
    with pytest.raises(FileError, match=r"there is no folder .*no; make it first"):
        check_places(tmp_path / "no" / "a")


def test_the_hidden_folder_can_be_read_by_nobody_else(tmp_path):
    with all_or_none(tmp_path / "a") as [place]:
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        place.write_bytes(b"")
