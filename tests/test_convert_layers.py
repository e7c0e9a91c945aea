"""Every layer type in ONNX and as PyTorch: the cases of the real Caffe in phase TEST, run beside our Net."""

from pathlib import Path

import pytest
from harness import GOLDEN, Case, cases

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.errors import LayerError, NetError
from rmpe_legacy.export.onnx import to_onnx, write_onnx
from rmpe_legacy.export.python_source import to_python, write_state
from rmpe_legacy.formats.runners import NetRunner, OnnxRunner, PythonRunner

# What these do cannot be said in ONNX or a forward: they compare with labels, read or write files, draw random numbers,
# choose by values how much they give, or remember what was before.
NO_COUNTERPART = {
    "Accuracy", "AccuracyHeatmap", "ContrastiveLoss", "Data", "DetectionEvaluate", "DummyData", "EuclideanLoss",
    "EuclideanLossHeatmap", "Filter", "HDF5Data", "HDF5Output", "HingeLoss", "Im2col", "ImageData", "InfogainLoss",
    "LSTM", "LSTMUnit", "MemoryData", "MultiBoxLoss", "MultinomialLogisticLoss", "RNN", "SigmoidCrossEntropyLoss",
    "SmoothL1Loss", "SoftmaxWithLoss", "WindowData",
}
KINDS = ("layers", "detection", "forks")
TIES = {"DetectionOutput__keep_top_k_ties__rmpe", "DetectionOutput__keep_top_k_ties__ssd"}  # which of equals stays
SAID = ("cannot be converted", "cannot be written", "is in phase TRAIN", "Got invalid dimensions for input")


def by_onnx(net: Net, folder: Path) -> OnnxRunner:
    write_onnx(folder / "net.onnx", to_onnx(net)[0])
    return OnnxRunner(folder / "net.onnx", "onnx")


def by_python(net: Net, folder: Path) -> PythonRunner:
    model = to_python(net, "a case", "net.pt")
    (folder / "net.py").write_text(model.text)
    write_state(folder / "net.pt", model.state)
    return PythonRunner(folder / "net.py", "model.py")


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_gives_what_our_net_gives(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    same, refusals, wrong = 0, [], []
    for folder in cases(*KINDS):
        case = Case(folder)
        if case.meta["phase"] != "TEST" or case.types & NO_COUNTERPART or case.name in TIES:
            continue
        monkeypatch.chdir(folder)  # some layers name files beside their prototxt
        net = case.load()
        inputs = {name: value.detach().numpy() for name, value in case._inputs(net, None).items()}
        try:
            verdict = verify(NetRunner(net, "net"), make(net, tmp_path), inputs)
        except (LayerError, NetError) as error:
            refusals.append(f"{folder.name}: {error}")
            continue
        same += verdict.same
        if not verdict.same:
            wrong.append(f"{folder.name}: {verdict.sentence}")
    assert not wrong, "\n".join(wrong)
    assert same > 200
    assert not [refusal for refusal in refusals if not any(words in refusal for words in SAID)]
    of_caffes = [refusal for refusal in refusals if not (GOLDEN / "forks" / refusal.partition(":")[0]).is_dir()]
    assert len(of_caffes) < 20
