"""Solvers against the real Caffe: parameters, losses, rates, histories, snapshots, logs. See tests/golden/solver."""

import json
import logging
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from harness import GOLDEN

from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.caffe.proto.message import Source
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.wire import decode
from rmpe_legacy.caffe.solver.learning_rate import POLICIES
from rmpe_legacy.caffe.solver.optimizers import OPTIMIZERS
from rmpe_legacy.caffe.solver.snapshot import write_weights, write_weights_hdf5
from rmpe_legacy.caffe.solver.solver import Solver
from rmpe_legacy.caffe.solver.state import read_state, write_state, write_state_hdf5
from rmpe_legacy.errors import RmpeError

CASES = sorted(path.parent for path in (GOLDEN / "solver").glob("*/meta.json"))
STEPPED = [folder for folder in CASES if not folder.name.startswith("Solve__")]
SOLVED = [folder for folder in CASES if folder.name.startswith("Solve__")]
# of an array's largest value or of 1, as facts/solver-io-data.md measures float32 against double; with BatchNorm 5e-5
TOLERANCE, BATCH_NORM = 5e-6, 5e-5


@pytest.fixture
def case(request, tmp_path, monkeypatch) -> Path:
    """A copy of a case's folder, which is the working directory, as it was Caffe's."""
    folder = tmp_path / "case"
    shutil.copytree(request.param, folder)
    monkeypatch.chdir(folder)
    return folder


def by_case(cases: list[Path]):
    return pytest.mark.parametrize("case", cases, indirect=True, ids=lambda folder: folder.name)


def trained() -> Solver:
    solver = Solver("solver.prototxt")
    solver.copy_trained(read_weights("init.caffemodel"))
    return solver


class Comparison:
    """Arrays of case.npz beside ours; each that is too far off is kept, with its numbers."""

    def __init__(self, folder: Path):
        self.want = dict(np.load(folder / "case.npz"))
        name = json.loads((folder / "meta.json").read_text())["name"]
        self.tolerance = BATCH_NORM if "batchnorm" in name else TOLERANCE
        self.compared: set[str] = set()
        self.wrong: list[str] = []

    def add(self, key: str, got, want=None, tolerance: float | None = None) -> None:
        want = np.asarray(self.want[key] if want is None else want, np.float64)
        got = np.asarray(got, np.float64)
        allowed = (self.tolerance if tolerance is None else tolerance) * max(1.0, np.abs(want).max(initial=0))
        self.compared.add(key)
        if want.shape != got.shape or not np.abs(want - got).max(initial=0) <= allowed:
            worst = np.unravel_index(np.abs(want - got).argmax(), want.shape) if want.shape == got.shape else None
            self.wrong.append(f"{key}{worst}: Caffe gave {want[worst] if worst is not None else want.shape}, we gave "
                              f"{got[worst] if worst is not None else got.shape}; {allowed:.2g} is allowed")

    def add_parameters(self, prefix: str, solver: Solver) -> None:
        for key in self.want:
            if key.startswith(prefix):
                layer, index = key.removeprefix(prefix).rsplit("_", 1)
                self.add(key, solver.net.params[layer][int(index)].detach().numpy())

    def add_history(self, prefix: str, solver: Solver) -> None:
        history = solver.optimizer.history()
        assert sum(key.startswith(prefix) for key in self.want) in (0, len(history))
        for key in self.want:
            if key.startswith(prefix):
                self.add(key, history[int(key.removeprefix(prefix))].numpy())


@by_case(STEPPED)
def test_ten_steps(case: Path):
    comparison, solver = Comparison(case), trained()
    comparison.add_parameters("param0_", solver)
    for i in range(10):
        solver.step(1)
        comparison.add("lr", np.float32(solver.optimizer.param_groups[0]["lr"]), comparison.want["lr"][i], tolerance=0)
        comparison.add("current_step", solver.rate.current_step, comparison.want["current_step"][i], tolerance=0)
        comparison.add("loss", solver.smoothed_loss, comparison.want["loss"][i])
        for key in comparison.want:
            if key.startswith("lastforward_"):
                value = solver.net.blobs[key.removeprefix("lastforward_")].detach().numpy()
                comparison.add(key, value.reshape(comparison.want[key][i].shape), comparison.want[key][i])
        comparison.add_parameters(f"param{i + 1}_", solver)
        comparison.add_history(f"history{i + 1}_", solver)
        if i == 0:
            for key in comparison.want:
                if key.startswith("upd1_"):
                    layer, index = key.removeprefix("upd1_").rsplit("_", 1)
                    comparison.add(key, solver.net.params[layer][int(index)].grad.numpy())
        if f"current_step_at_{i + 1}" in comparison.want:
            comparison.add(f"current_step_at_{i + 1}", solver.rate.current_step, tolerance=0)
    assert not comparison.wrong, "\n".join(comparison.wrong)
    left = {key for key in comparison.want if not key.startswith(("in_", "resumed"))} - comparison.compared
    assert not left


@by_case(STEPPED)
def test_five_steps_after_caffes_own_snapshot(case: Path):
    comparison, solver = Comparison(case), Solver("solver.prototxt")
    solver.restore(json.loads((case / "meta.json").read_text())["solverstate"])
    assert solver.iter == 5
    for i in range(5):
        solver.step(1)
        comparison.add("resumed_lr", np.float32(solver.optimizer.param_groups[0]["lr"]),
                       comparison.want["resumed_lr"][i], tolerance=0)
        comparison.add("resumed_loss", solver.smoothed_loss, comparison.want["resumed_loss"][i])
    comparison.add_parameters("resumed10_", solver)
    comparison.add_history("resumed_history10_", solver)
    assert not comparison.wrong, "\n".join(comparison.wrong)
    assert sum(key.startswith("resumed10_") for key in comparison.compared) >= 4


@by_case(CASES)
def test_snapshots_have_caffes_bytes(case: Path, tmp_path: Path):
    solver, compared = Solver("solver.prototxt"), 0
    for path in sorted(case.glob("snap_iter_*")):
        again = tmp_path / path.name
        if "solverstate" in path.name:
            (write_state_hdf5 if path.suffix == ".h5" else write_state)(again, read_state(path))
        else:
            layers = read_weights(path)
            solver.copy_trained(layers)
            if solver.param.snapshot_diff:
                copy_diffs(solver, path)
            write = write_weights_hdf5 if path.suffix == ".h5" else write_weights
            write(again, solver.net, solver.param.snapshot_diff)
        if path.suffix == ".h5":
            assert tree(again) == tree(path)
        else:
            assert again.read_bytes() == path.read_bytes()
        compared += 1
    assert compared >= 1


def copy_diffs(solver: Solver, path: Path) -> None:
    """Put the diffs that a snapshot stores where a step leaves them."""
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            stored = {(name, int(i)): file[f"diff/{name}/{i}"][()]
                      for name in file["diff"] for i in file[f"diff/{name}"]}
    else:
        net = decode(path.read_bytes(), load_schema()["NetParameter"], Source(str(path)))
        stored = {(layer.name, i): np.array(blob.diff) for layer in net.layer for i, blob in enumerate(layer.blobs)}
    assert stored
    for (name, i), values in stored.items():
        parameter = solver.net.params[name][i]
        parameter.grad = torch.from_numpy(values.copy()).view(parameter.shape)


def tree(path: Path) -> dict:
    """Every object of an HDF5 file: groups, and datasets with shape, type and bytes."""
    found = {}

    def add(name, item):
        is_array = isinstance(item, h5py.Dataset)
        found[name] = (item.shape, item.dtype.str, np.asarray(item[()]).tobytes()) if is_array else ()

    with h5py.File(path) as file:
        file.visititems(add)
    return found


class Log(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record):
        # the stored logs leave the former out, and Caffe has no run states
        if not record.getMessage().startswith(("Ignoring source layer", "No run state")):
            self.lines.append(record.getMessage())


@pytest.fixture
def log():
    logger, handler = logging.getLogger("rmpe_legacy"), Log()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@by_case(SOLVED)
def test_a_whole_run_logs_caffes_lines(case: Path, log: Log):
    comparison, solver = Comparison(case), trained()
    solver.solve()
    assert log.lines == (case / "train.log").read_text().splitlines()
    comparison.add_parameters("at_10_", solver)
    if (case / "resume.log").exists():
        solver.copy_trained(read_weights("snap_iter_8.caffemodel"))  # where the case stores its parameters
        comparison.add_parameters("final_", solver)
        log.lines.clear()
        Path("snap_iter_4.runstate").unlink()  # so that it resumes as Caffe does
        resumed = Solver("solver.prototxt")
        resumed.restore("snap_iter_4.solverstate")
        resumed.solve()
        assert log.lines == (case / "resume.log").read_text().splitlines()
        resumed.copy_trained(read_weights("snap_iter_8.caffemodel"))
        comparison.add_parameters("resumed_", resumed)
    assert not comparison.wrong, "\n".join(comparison.wrong)


@by_case([folder for folder in STEPPED if folder.name == "SGD__test_net"])
def test_stepping_logs_caffes_lines(case: Path, log: Log):
    solver = trained()
    for _ in range(10):
        solver.step(1)
    wanted = (case / "train.log").read_text().splitlines()
    assert [line for line in log.lines if not line.startswith("Snapshotting")] == wanted


SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 10 snapshot_prefix: "snap"\n'
NET = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param { shape { dim: 2 dim: 3 }
  shape { dim: 2 } data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)

    def write(text: str = SOLVER) -> Solver:
        Path("solver.prototxt").write_text(text)
        return Solver("solver.prototxt")

    return write


@pytest.mark.parametrize(("text", "words"), [
    (SOLVER + 'type: "LBFGS"', "solver type 'LBFGS' is not one of SGD, Nesterov, AdaGrad, RMSProp, AdaDelta, Adam"),
    (SOLVER.replace("fixed", "plateau"), "lr_policy 'plateau' is not one of exp, fixed, inv, multistep, poly"),
    (SOLVER.replace('net: "net.prototxt"', ""), "names no network; give one of net, net_param"),
    (SOLVER + 'train_net: "net.prototxt"', "net and train_net each name a network; give one of"),
    (SOLVER.replace("net.prototxt", "none.prototxt"), "none.prototxt: No such file"),
    (SOLVER + "test_iter: 1", "there are test nets, but test_interval is 0; set it above 0"),
    (SOLVER + "test_iter: 1 test_interval: 2 test_state { stage: \"a\" } test_state { stage: \"b\" }",
     "test_state is given 2 times for 1 test nets"),
    (SOLVER + "solver_type: ADAM type: \"Adam\"", "has both solver_type, the old form, and type; keep type"),
    (SOLVER + "momentun: 0.9", "SolverParameter has no field 'momentun'"),
    (SOLVER + "average_loss: 0", "average_loss is 0; it must be 1 or more"),
    (SOLVER + "type: \"AdaGrad\" momentum: 0.9", "momentum cannot be used with AdaGrad"),
    (SOLVER + "type: \"RMSProp\" rms_decay: 1", "rms_decay is 1; it must lie between 0 and 1"),
    (SOLVER + "regularization_type: \"L3\"", "regularization_type 'L3' is not one of L2, L1"),
    (SOLVER + "snapshot: 5 snapshot_prefix: \"no/such\"", "snapshot_prefix is given twice"),
    (SOLVER.replace('"snap"', '"no/such"') + "snapshot: 5", "snapshots go to no, which is not a writable folder"),
    (SOLVER.replace("snapshot_prefix: \"snap\"", "snapshot: 5"), "snapshot is set, but snapshot_prefix is not"),
    (SOLVER.replace("fixed", "step"), 'lr_policy "step" needs a stepsize above 0'),
    (SOLVER.replace('net: "net.prototxt"', 'net_param { name: "n" input: "x" input_shape { dim: 2 } }'),
     "the network 'n' has no parameters in phase TRAIN, so there is nothing to train"),
    ("layer { name: \"x\" }", "SolverParameter has no field 'layer'"),
])
def test_a_mistake_is_one_sentence(files, text, words):
    with pytest.raises(RmpeError, match=words.replace("(", r"\(")):
        files(text)


def test_a_state_of_another_network(files):
    solver = files()
    solver.step(2)
    _, state = solver.snapshot()
    Path("net.prototxt").write_text(NET.replace("num_output: 2", "num_output: 3"))
    with pytest.raises(RmpeError, match=r"the history of ip\[0\] is 2 x 3, and the parameter 3 x 3"):
        files().restore(state)
    Path("net.prototxt").write_text(NET)
    with pytest.raises(RmpeError, match="holds 2 history blobs, and Adam needs 4"):
        files(SOLVER + 'type: "Adam"').restore(state)


@pytest.mark.parametrize("writer", ["write_weights", "write_run_state", "write_state"])
def test_a_full_disk_leaves_the_last_snapshot(files, monkeypatch, writer):
    solver = files()
    weights, state = solver.snapshot()
    before = weights.read_bytes(), state.read_bytes()

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"rmpe_legacy.caffe.solver.solver.{writer}", no_space)
    with pytest.raises(RmpeError, match="cannot be written: No space left on device"):
        solver.snapshot()
    assert (weights.read_bytes(), state.read_bytes()) == before
    assert sorted(path.name for path in Path().iterdir()) == [
        "net.prototxt", "snap_iter_0.caffemodel", "snap_iter_0.runstate", "snap_iter_0.solverstate", "solver.prototxt"]


def test_actions(files):
    actions = iter(["none", "snapshot", "none", "stop"])
    Path("solver.prototxt").write_text(SOLVER)
    solver = Solver("solver.prototxt", action=lambda: next(actions))
    solver.solve()
    assert solver.iter == 4
    assert solver.stopped
    assert Path("snap_iter_2.solverstate").exists()
    assert Path("snap_iter_4.solverstate").exists()  # after training, as snapshot_after_train says


def test_weights_beside_a_state_are_found(files, tmp_path, monkeypatch):
    solver = files()
    solver.step(3)
    _, state = solver.snapshot()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copy(tmp_path / "net.prototxt", "net.prototxt")
    again = Solver(tmp_path / "solver.prototxt")
    again.restore(tmp_path / state)
    assert again.iter == 3
    assert again.net.params["ip"][0].equal(solver.net.params["ip"][0])


def test_a_net_in_another_folder_than_the_working_directory(files, tmp_path, monkeypatch):
    files()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(RmpeError, match=r"there is no net.prototxt in the working directory, where Caffe looks for it"):
        Solver(tmp_path / "solver.prototxt")


def test_every_policy_has_a_case():
    used = {re.search(r'lr_policy: "(\w+)"', (folder / "solver.prototxt").read_text())[1] for folder in STEPPED}
    assert used == set(POLICIES) - {"plateau"}  # which the fork does not have: test_training_runs.py


def test_optimizers_are_public():
    from rmpe_legacy import optim

    assert set(optim.__all__) == {*OPTIMIZERS, "CaffeOptimizer"}
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = optim.SGD([parameter], lr=0.5, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        parameter.sum().backward()
        optimizer.step()
    assert parameter.tolist() == pytest.approx([1 - 0.5 - 0.95] * 2)  # the history holds the rate


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_how_many_parameters_are_updated_together_does_not_matter(name, monkeypatch):
    results = []
    for cache in (1, 10, 1 << 20):
        monkeypatch.setattr("rmpe_legacy.caffe.solver.optimizers.CPU_CACHE", cache)
        numbers = torch.Generator().manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(size, generator=numbers)) for size in (3, 7, 1, 20)]
        optimizer = OPTIMIZERS[name]([{"params": [p], "decay_mult": i} for i, p in enumerate(parameters)], 0.1,
                                     weight_decay=0.01, iter_size=2, clip_gradients=3.0)
        for _ in range(3):
            for p in parameters:
                p.grad = torch.randn(p.shape, generator=numbers)
            optimizer.step()
        results.append(parameters)
    for a, b, c in zip(*results, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
