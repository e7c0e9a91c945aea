"""Every layer type in ONNX and as PyTorch: the cases of the real Caffe in phase TEST, run beside our Net."""

from pathlib import Path

import pytest
from exported import by_onnx, by_python
from harness import GOLDEN, Case, cases

from rmpe_legacy import load_net
from rmpe_legacy.caffe.layers import known_types
from rmpe_legacy.caffe.layers.known_python import known_forms
from rmpe_legacy.caffe.layers.registry import forms, layer_class
from rmpe_legacy.compare.verify import verify
from rmpe_legacy.errors import LayerError, NetError
from rmpe_legacy.export.emit import ONNX, PYTHON
from rmpe_legacy.export.onnx import to_onnx
from rmpe_legacy.export.python_source import to_python
from rmpe_legacy.formats.base import NetRunner

# Of Python layers, some can be exported; the others say why.
NOT_EXPORTABLE = {name for name in known_types() if layer_class(name).not_exportable} - {"Silence", "Python"}
FORMS = forms() | known_forms()
BASE_TYPES = {name for name in known_types() if layer_class(name) not in FORMS.values()}
KINDS = ("layers", "detection", "forks")
TIES = {"DetectionOutput__keep_top_k_ties__rmpe", "DetectionOutput__keep_top_k_ties__ssd"}  # which of equals stays
KEEP = "keep PyTorch, where the whole network runs: load_net, or `rmpe forward`"
ONLY_TRAIN = {"DecodeBBox__train_drops"}  # its layer has one bottom less in TEST
SAID = ("cannot be converted", "cannot be written", "is in phase TRAIN", "Got invalid dimensions for input")


@pytest.mark.parametrize("name", sorted(BASE_TYPES - {"Input"}))  # an Input is the graph's own
def test_a_type_has_both_emitters_or_a_reason_to_have_none(name: str):
    emitters = [name in ONNX, name in PYTHON]
    assert emitters == ([False, False] if layer_class(name).not_exportable else [True, True])


@pytest.mark.parametrize("key", sorted(FORMS))
def test_a_form_that_forks_have_has_both_emitters_or_a_reason_to_have_none(key: str):
    emitters = [key in ONNX, key in PYTHON]
    assert emitters == ([False, False] if FORMS[key].not_exportable else [True, True])


def test_an_emitter_is_of_a_type_that_there_is():
    assert {*ONNX, *PYTHON} <= {*known_types(), *FORMS}


def test_a_type_that_cannot_be_exported_says_why(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "data" type: "Input" top: "data" top: "label"
          input_param { shape { dim: [1, 2, 5, 5] } shape { dim: [1, 1, 5, 5] } } }
        layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 1 } }
        layer { name: "right" type: "Accuracy" bottom: "pool" bottom: "label" top: "right" }
        layer { name: "own" type: "Python" bottom: "pool" top: "own" python_param { module: "own" layer: "Own" } }""")
    (tmp_path / "own.py").write_text("""import caffe
class Own(caffe.Layer):
    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)
""")
    net = load_net(path, allow_python=True)
    for export, target in ((to_onnx, "ONNX"), (lambda net: to_python(net, "a case", "net.pt"), "a PyTorch module")):
        with pytest.raises(NetError) as error:
            export(net)
        assert str(error.value).splitlines() == [
            f"2 layers cannot be converted to {target}:",
            f"  {path}:4:9: right (Accuracy): {layer_class('Accuracy').not_exportable}",
            f"  {path}:5:9: own (Python): {layer_class('Python').not_exportable}",
            f"Convert the layers before, with --until pool; or {KEEP}"]


def test_an_option_that_cannot_be_exported_says_why(tmp_path: Path):
    path = tmp_path / "net.prototxt"
    pool = 'layer { name: "%s" type: "Pooling" bottom: "%s" top: "%s" pooling_param { pool: %s kernel_size: 2 } }'
    path.write_text('layer { name: "a" type: "Input" top: "a" input_param { shape { dim: [1, 2, 5, 5] } } }\n'
                    + pool % ("p", "a", "p", "MAX") + "\n" + pool % ("drawn", "p", "drawn", "STOCHASTIC"))
    with pytest.raises(LayerError) as error:
        to_onnx(load_net(path))
    assert str(error.value) == (
        f"{path}:3:1: drawn (Pooling): cannot be converted to ONNX: pool STOCHASTIC; use MAX or AVE. Convert the "
        f"layers before, with --until p; or {KEEP}")


@pytest.mark.parametrize("make", [by_onnx, by_python])
def test_gives_what_our_net_gives(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    same, refusals, wrong = 0, [], []
    for folder in cases(*KINDS):
        case = Case(folder)
        if case.phase == "TRAIN" and folder.parent.name == "forks" and folder.name not in ONLY_TRAIN:
            case = Case(folder, case.run.replace("TRAIN", "TEST"))  # with gradients; the layer is the same
        if case.phase != "TEST" or case.types & NOT_EXPORTABLE or case.name in TIES:
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
    assert same > 400
    assert not [refusal for refusal in refusals if not any(words in refusal for words in SAID)]
    of_caffes = [refusal for refusal in refusals if not (GOLDEN / "forks" / refusal.partition(":")[0]).is_dir()]
    assert len(of_caffes) < 20
