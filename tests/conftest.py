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

# Modules that `make quick` leaves out: together they take nine tenths of the time. A single slow test has the marker.
SLOW = {
    "caffe": ["test_detection", "test_layers_gradient", "test_layers_shapes", "test_memory", "test_nets"],
    "cli": ["test_cli", "test_cli_habits"],
    "common": ["test_full_disk"],
    "compare": ["test_convert", "test_convert_proof"],
    "engines": ["test_engines"],
    "evaluation": ["test_evaluation_cli"],
    "export": ["test_convert_layers", "test_convert_nets", "test_convert_opencv"],
    "ops": ["test_native", "test_ops"],
    "paper": ["test_ablation", "test_demo_models", "test_pipeline_reproduce"],
    "pose": ["test_once", "test_onnx_pose", "test_pipeline_golden", "test_pipeline_networks", "test_three_lines"],
    "pycaffe": ["test_pycaffe_golden", "test_pycaffe_net", "test_run"],
    "repository": ["test_examples", "test_fuzz", "test_hostile", "test_instruction_sets", "test_notebooks",
                   "test_prototxts", "test_suite"],
    "runs": ["test_inputs_and_videos", "test_new_plugin", "test_pipeline_commands", "test_pipeline_report"],
    "serve": ["test_serve"],
    "solver": ["test_make_lmdb", "test_solver", "test_training_cli", "test_training_processes", "test_training_runs"],
    "torch7": ["test_torch7_to_caffe"],
    "training": ["test_train_demo", "test_train_pose"],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, and refuse empty ids: an id has to say which case it is."""
    for item in items:
        if item.path.stem in SLOW.get(item.path.parent.name, ()):
            item.add_marker(pytest.mark.slow)
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
