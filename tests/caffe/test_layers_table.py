"""`rmpe layers`: its evidence is that of the cases, its table has every type, and every type has a case."""

import json
from pathlib import Path

import pytest
from harness import KINDS, Case, cases
from paths import ROOT

import rmpe_legacy.caffe.layers
from rmpe_legacy.caffe.layers import known_types
from rmpe_legacy.caffe.layers.registry import layer_class
from rmpe_legacy.cli import main
from rmpe_legacy.cli.layer_report import EVIDENCE, Gap, describe_layers, layer_details, layers_table, read_evidence
from rmpe_legacy.errors import RmpeError

# Caffe's layer types and the files of src/caffe/layers (include/caffe/layers for .hpp) that define them: the 74 that
# RMPE@5188c23 registers (REGISTER_LAYER_CLASS and REGISTER_LAYER_CREATOR), and Clip and Swish of BVLC/caffe@9b89154.
SOURCES = {
    "AbsVal": "absval_layer.cpp", "Accuracy": "accuracy_layer.cpp", "AccuracyHeatmap": "accuracy_heatmap_layer.cpp",
    "AnnotatedData": "annotated_data_layer.cpp", "ArgMax": "argmax_layer.cpp", "BNLL": "bnll_layer.cpp",
    "BatchNorm": "batch_norm_layer.cpp", "BatchReindex": "batch_reindex_layer.cpp", "Bias": "bias_layer.cpp",
    "Clip": "clip_layer.cpp", "Concat": "concat_layer.cpp", "ContrastiveLoss": "contrastive_loss_layer.cpp",
    "Convolution": "conv_layer.cpp", "Crop": "crop_layer.cpp", "Data": "data_layer.cpp",
    "DataHeatmap": "data_heatmap.cpp", "Deconvolution": "deconv_layer.cpp",
    "DetectionEvaluate": "detection_evaluate_layer.cpp", "DetectionOutput": "detection_output_layer.cpp",
    "Dropout": "dropout_layer.cpp", "DummyData": "dummy_data_layer.cpp", "ELU": "elu_layer.cpp",
    "Eltwise": "eltwise_layer.cpp", "EltwiseAffine": "eltwise_affine_layer.cpp", "Embed": "embed_layer.cpp",
    "EuclideanLoss": "euclidean_loss_layer.cpp", "EuclideanLossHeatmap": "euclidean_loss_heatmap_layer.cpp",
    "Exp": "exp_layer.cpp", "Filter": "filter_layer.cpp", "Flatten": "flatten_layer.cpp",
    "HDF5Data": "hdf5_data_layer.cpp", "HDF5Output": "hdf5_output_layer.cpp", "HingeLoss": "hinge_loss_layer.cpp",
    "Im2col": "im2col_layer.cpp", "ImageData": "image_data_layer.cpp", "InfogainLoss": "infogain_loss_layer.cpp",
    "InnerProduct": "inner_product_layer.cpp", "Input": "input_layer.cpp", "LRN": "lrn_layer.cpp",
    "LSTM": "lstm_layer.cpp", "LSTMUnit": "lstm_unit_layer.cpp", "Log": "log_layer.cpp", "MVN": "mvn_layer.cpp",
    "MemoryData": "memory_data_layer.cpp", "MultiBoxLoss": "multibox_loss_layer.cpp",
    "MultinomialLogisticLoss": "multinomial_logistic_loss_layer.cpp", "Normalize": "normalize_layer.cpp",
    "PReLU": "prelu_layer.cpp", "Parameter": "parameter_layer.cpp", "Permute": "permute_layer.cpp",
    "Pooling": "pooling_layer.cpp", "Power": "power_layer.cpp", "PredictionHeatmap": "prediction_heatmap_layer.cpp",
    "PriorBox": "prior_box_layer.cpp", "Python": "python_layer.hpp", "RNN": "rnn_layer.cpp", "ReLU": "relu_layer.cpp",
    "Reduction": "reduction_layer.cpp", "Reshape": "reshape_layer.cpp", "SPP": "spp_layer.cpp",
    "Scale": "scale_layer.cpp", "Sigmoid": "sigmoid_layer.cpp",
    "SigmoidCrossEntropyLoss": "sigmoid_cross_entropy_loss_layer.cpp", "Silence": "silence_layer.cpp",
    "Slice": "slice_layer.cpp", "SmoothL1Loss": "smooth_L1_loss_layer.cpp", "Softmax": "softmax_layer.cpp",
    "SoftmaxWithLoss": "softmax_loss_layer.cpp", "SpatialTransformer": "st_layer.cpp", "Split": "split_layer.cpp",
    "Swish": "swish_layer.cpp", "TanH": "tanh_layer.cpp", "Threshold": "threshold_layer.cpp", "Tile": "tile_layer.cpp",
    "VideoData": "video_data_layer.cpp", "WindowData": "window_data_layer.cpp",
}
FAMILIES = {  # file -> the types that Caffe derives from one class; a loss may have a file of its own instead
    "neuron": {"AbsVal", "BNLL", "Clip", "Dropout", "ELU", "Exp", "Log", "PReLU", "Power", "ReLU", "Sigmoid", "Swish",
               "TanH", "Threshold"},
    "recurrent": {"LSTM", "LSTMUnit", "RNN"},
    "loss": {name for name in SOURCES if "Loss" in name},
}
RMPE = SOURCES.keys() - {"Clip", "Swish"}
RMPE_ALONE = {"AccuracyHeatmap", "DataHeatmap", "EltwiseAffine", "EuclideanLossHeatmap", "PredictionHeatmap",
              "SpatialTransformer"}
SSD = RMPE - RMPE_ALONE  # weiliu89/caffe@4817bf8: 68 types
BVLC = SSD - {"AnnotatedData", "DetectionEvaluate", "DetectionOutput", "MultiBoxLoss", "Normalize", "Permute",
              "PriorBox", "SmoothL1Loss", "VideoData"} | {"Clip", "Swish"}  # BVLC/caffe@9b89154: 61 types
LAYERS = Path(rmpe_legacy.caffe.layers.__file__).parent
TYPES = {"rmpe": RMPE, "ssd": SSD, "bvlc": BVLC}


def source_of(name: str) -> str:
    """The Caffe source file of a type, as its class gives it."""
    return layer_class(name).caffe_source or f"{name.lower()}_layer.cpp"


def stem(source: str) -> str:
    """The name of the file here that a Caffe source file's layer is in."""
    return source.lower().partition(".")[0].removesuffix("_layer")


@pytest.mark.parametrize("name", [name for name in known_types() if layer_class(name).dialects])
def test_a_type_is_in_the_file_named_after_its_caffe_source(name: str):
    source = SOURCES.get(name, source_of(name))
    assert stem(source_of(name)).replace("_", "") == stem(source).replace("_", "")
    *package, file = layer_class(name).__module__.split(".")
    assert package == ["rmpe_legacy", "caffe", "layers"]
    family = next((f for f, names in FAMILIES.items() if name in names), None)
    own = LAYERS / f"{stem(source)}.py"
    assert file == stem(source) if own.exists() or family is None else file == family


@pytest.fixture(scope="module")
def evidence():
    return read_evidence()


@pytest.mark.parametrize(("dialect", "count"), [("rmpe", 74), ("ssd", 68), ("bvlc", 61)])
def test_each_dialect_has_the_types_that_its_caffe_registers(dialect: str, count: int):
    assert len(TYPES[dialect]) == count
    assert {name for name in known_types() if dialect in layer_class(name).dialects} == TYPES[dialect]


def test_every_type_has_a_case():
    """In a dialect that has it; case by case, TestEvidence holds what is recorded against the folders."""
    tested = {}
    for folder in cases(*KINDS):
        meta = json.loads((folder / "meta.json").read_text())
        tested.setdefault(meta["type"], set()).add(meta.get("dialect", "rmpe"))
    assert {name for name in known_types() if layer_class(name).dialects
            and not tested.get(name, set()) & set(layer_class(name).dialects)} == set()


class TestEvidence:
    def test_is_of_the_cases_that_there_are(self, evidence):
        found = {}
        for case in map(Case, cases(*KINDS)):
            found[case.id] = (case.type, (case.run, *(other.run for other in case.others)))
        recorded = {proof.case: (proof.type, proof.runs) for proof in evidence.proofs}
        assert recorded == found, "run tools/measure_layers.py"

    def test_has_something_compared_in_every_case(self, evidence):
        assert [p.case for p in evidence.proofs if p.top is p.diff is p.param_diff is None] == []

    def test_missing_or_broken_is_a_sentence(self, tmp_path: Path):
        path = tmp_path / "evidence.json"
        with pytest.raises(RmpeError, match=r"evidence.json: No such file.*tools/measure_layers.py to write it"):
            read_evidence(path)
        for text in ("{", "[]", '{"cases": {}}', '{"caffe": "", "machine": "", "cases": {"a": [1]}}'):
            path.write_text(text)
            with pytest.raises(RmpeError, match="contains no measurements"):
                read_evidence(path)


class TestTable:
    def test_has_each_type_with_its_worst_error(self, evidence):
        rows = {row["type"]: row for row in layers_table(evidence)}
        assert list(rows) == known_types()
        row = rows["Convolution"]
        proofs = [proof for proof in evidence.proofs if proof.type == "Convolution"]
        largest = max(gap.relative for p in proofs for gap in (p.top, p.diff, p.param_diff) if gap)
        assert row["cases"] == len(proofs) > 20
        assert row["relative"] == largest > 0
        assert row["dialects"][:3] == ["rmpe", "ssd", "bvlc"]

    def test_a_type_without_a_case_says_so(self, evidence):
        less = type(evidence)(evidence.caffe, evidence.machine, evidence.proofs[:1])
        words = describe_layers(less).partition("\nTile ")[2].split()  # a narrow column wraps
        assert words.index("compared") - words.index("not") == 1

    def test_details_have_the_fields_of_each_dialect(self, evidence):
        fields = layer_details("Pooling", evidence)["reads"]["pooling_param"]
        by_name = {field["name"]: field for field in reversed(fields)}
        assert by_name["round_mode"]["dialects"] == ["bvlc", "greentea", "r-c3d", "synopsys", "tsn-3d"]
        assert by_name["stride"]["default"] == "1"
        clip = [f for f in layer_details("PriorBox", evidence)["reads"]["prior_box_param"] if f["name"] == "clip"]
        assert [(f["default"], f["dialects"]) for f in clip] == [
            ("True", ["rmpe", "textboxes-v1"]), ("False", ["ssd", "sstd", "synopsys"])]

    def test_details_have_what_base_classes_read(self, evidence):
        assert set(layer_details("ImageData", evidence)["reads"]) == {"transform_param", "image_data_param"}
        assert set(layer_details("SoftmaxWithLoss", evidence)["reads"]) == {"softmax_param", "loss_param"}

    def test_worst_of_nothing_is_nothing(self, evidence):
        proof = type(evidence.proofs[0])("a", "T", ("rmpe TEST",), None, None, Gap(2e-7, 3))
        assert proof.worst == Gap(2e-7, 3)


class TestCommand:
    def run(self, capsys, *argv: str) -> tuple[int, str, str]:
        return (main(["layers", *argv]), *capsys.readouterr())

    def test_prints_the_table(self, capsys):
        code, out, err = self.run(capsys)
        assert (code, err) == (0, "")
        assert f"{len(known_types())} types, {len(read_evidence().proofs)} cases" in out
        assert out.splitlines()[0].split() == ["type", "phases", "dialects", "cases", "runs", "relative", "ulp"]

    def test_prints_one_type(self, capsys):
        code, out, err = self.run(capsys, "Pooling")
        assert (code, err) == (0, "")
        assert "rmpe_legacy/caffe/layers/pooling.py:" in out
        assert "layers/Pooling__max_ties" in out

    def test_prints_json(self, capsys):
        assert {row["type"] for row in json.loads(self.run(capsys, "--json")[1])} == set(known_types())
        details = json.loads(self.run(capsys, "--json", "Tile")[1])
        assert details["cases"] == len(details["proofs"])

    def test_an_unknown_type_is_a_sentence(self, capsys):
        code, out, err = self.run(capsys, "Poling")
        assert (code, out) == (1, "")
        assert err == "rmpe: Poling: unknown layer type; did you mean 'Pooling'?\n"

    def test_without_measurements_it_says_so(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr("rmpe_legacy.cli.layer_report.read_evidence.__defaults__", (tmp_path / "none.json",))
        code, _, err = self.run(capsys)
        assert code == 1
        assert "tools/measure_layers.py to write it" in err


def test_the_evidence_is_part_of_the_package():
    assert EVIDENCE.is_file()
    assert "layers/evidence.json" in (ROOT / "pyproject.toml").read_text()


def test_the_diffs_in_contributing_are_the_files_here():
    added: dict[str, list[str]] = {}
    for diff in (ROOT / "CONTRIBUTING.md").read_text().split("```diff\n")[1:]:
        for line in diff.partition("\n```")[0].splitlines(keepends=True):
            if line.startswith("+++ b/"):
                runs = added[line[6:].strip()] = [""]
            elif line.startswith("+"):
                runs[-1] += line[1:]
            elif not line.startswith("---") and runs[-1]:
                runs.append("")  # lines of context separate what is added
    assert list(added) == [
        "rmpe_legacy/caffe/layers/tile.py", "rmpe_legacy/export/emit/shape.py",
        "tests/golden/layers/Tile__axis1/net.prototxt", "rmpe_legacy/formats/state_dict.py",
        "rmpe_legacy/formats/registry.py", "tests/compare/test_convert.py", "rmpe_legacy/cli/prototxt.py",
        "rmpe_legacy/cli/__init__.py"]
    for name, runs in added.items():
        text = (ROOT / name).read_text()
        assert all(run.strip("\n") + "\n" in text for run in runs), name
