"""What is printed, to streams that are closed, full, or of another encoding."""

import errno
import io
import logging
import sys
from pathlib import Path

import pytest

from rmpe_legacy.cli import terminal
from rmpe_legacy.errors import RmpeError


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_control_characters_are_escaped_and_the_encoding_is_kept():
    out = io.TextIOWrapper(raw := io.BytesIO(), encoding="ascii")
    terminal.say("größe\x1b[31m\ttab", out)
    out.flush()
    assert raw.getvalue() == b"gr\\xf6\\xdfe\\x1b[31m\ttab\n"


def test_a_full_disk_is_an_error_and_what_was_buffered_is_dropped(tmp_path: Path):
    with pytest.raises(RmpeError, match=r"^standard output cannot be written: No space left on device$"):
        terminal.say("words", Full())  # without a file descriptor
    file = (tmp_path / "out").open("w")
    file.write("buffered")
    terminal.abandon(file)
    file.close()
    assert (tmp_path / "out").read_text() == ""


def test_a_closed_stream_is_an_error(monkeypatch: pytest.MonkeyPatch):
    stream = io.StringIO()
    stream.close()
    with pytest.raises(RmpeError, match="standard output cannot be written: I/O operation on closed file"):
        terminal.say("words", stream)
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw, or with `>&-`
    with pytest.raises(RmpeError, match="standard output is closed, so nothing can be printed"):
        terminal.say("words")
    terminal.finish()


def test_a_reader_that_has_gone_is_not_an_error_of_ours():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        terminal.say("words", Gone())


@pytest.mark.parametrize("stream", [None, Full()], ids=["closed", "full"])
def test_an_error_that_cannot_be_printed_changes_nothing(monkeypatch: pytest.MonkeyPatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    terminal.tell("something")


@pytest.mark.parametrize(("quiet", "verbose", "want"), [
    (False, False, "rmpe: a note\nrmpe: a warning\nrmpe: an error\n"), (True, False, "rmpe: an error\n"),
    (False, True, "rmpe: details\nrmpe: a note\nrmpe: a warning\nrmpe: an error\n"),
])
def test_what_the_log_shows(capsys: pytest.CaptureFixture, quiet: bool, verbose: bool, want: str):
    before = terminal.LOGGER.level, list(terminal.LOGGER.handlers)
    try:
        for _ in range(2):  # a second call replaces the handler of the first
            terminal.start_logging(quiet, verbose)
        terminal.LOGGER.debug("details")
        terminal.note("a note")
        terminal.LOGGER.warning("a warning")
        terminal.LOGGER.error("an error")
    finally:
        terminal.LOGGER.setLevel(before[0])
        terminal.LOGGER.handlers[:] = before[1]
    assert capsys.readouterr().err == want
    assert logging.getLogger("rmpe_legacy") is terminal.LOGGER
