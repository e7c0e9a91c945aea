"""For all tests: no empty ids, one line about each kind of skip, and the whole networks, made once."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from shared import is_missing_data, missing_data
from whole_networks import WholeNetwork

from rmpe_legacy.cli import main


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An id has to say which case it is."""
    nameless = [item.nodeid for item in items if hasattr(item, "callspec") and not all(item.callspec._idlist)]
    if nameless:
        raise pytest.UsageError("a parameter has an empty id: " + ", ".join(nameless))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were skipped, and why, in one line for each reason."""
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ")
                      for report in terminalreporter.stats.get("skipped", ()))
    data = {reason: reasons.pop(reason) for reason in list(reasons) if is_missing_data(reason)}
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason}")
    if data:
        terminalreporter.write_line(missing_data(data))


@pytest.fixture
def rmpe(capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs a command: (exit code, standard output, standard error)."""
    def run(*argv) -> tuple[int, str, str]:
        code = main([str(a) for a in argv])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def whole_network() -> Iterator[Callable[[str], WholeNetwork]]:
    """Gives the network of a name, ssd or pose; its weights are drawn when it is first asked for."""
    with TemporaryDirectory(prefix="rmpe_networks_") as scratch:  # 165 MB, too much for pytest to keep
        yield cache(lambda name: WholeNetwork(name, Path(scratch)))
