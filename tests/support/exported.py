"""A network as it is after export, ready to run."""

from pathlib import Path

from rmpe_legacy.caffe.net import Net
from rmpe_legacy.export.onnx import to_onnx, write_onnx
from rmpe_legacy.export.python_source import to_python, write_state
from rmpe_legacy.formats.onnx import OnnxRunner
from rmpe_legacy.formats.python import PythonRunner


def by_onnx(net: Net, folder: Path) -> OnnxRunner:
    write_onnx(folder / "net.onnx", to_onnx(net)[0])
    return OnnxRunner(folder / "net.onnx", "onnx")


def by_python(net: Net, folder: Path) -> PythonRunner:
    model = to_python(net, "a network", "net.pt")
    (folder / "net.py").write_text(model.text)
    write_state(folder / "net.pt", model.state)
    return PythonRunner(folder / "net.py", "model.py")
