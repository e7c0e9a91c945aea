"""`rmpe layers`: its evidence is that of the cases, its table has every type, and every type has a case."""

import json
from pathlib import Path

import pytest
from harness import KINDS, Case, cases

from rmpe_legacy.caffe.layers import known_types
from rmpe_legacy.caffe.layers.registry import layer_class
from rmpe_legacy.cli import main
from rmpe_legacy.cli.layer_report import EVIDENCE, Gap, describe_layers, layer_details, layers_table, read_evidence
from rmpe_legacy.errors import RmpeError

# What RMPE@5188c23 registers (REGISTER_LAYER_CLASS and REGISTER_LAYER_CREATOR in src/caffe): 74 types.
RMPE = {
    "AbsVal", "Accuracy", "AccuracyHeatmap", "AnnotatedData", "ArgMax", "BNLL", "BatchNorm", "BatchReindex", "Bias",
    "Concat", "ContrastiveLoss", "Convolution", "Crop", "Data", "DataHeatmap", "Deconvolution", "DetectionEvaluate",
    "DetectionOutput", "Dropout", "DummyData", "ELU", "Eltwise", "EltwiseAffine", "Embed", "EuclideanLoss",
    "EuclideanLossHeatmap", "Exp", "Filter", "Flatten", "HDF5Data", "HDF5Output", "HingeLoss", "Im2col", "ImageData",
    "InfogainLoss", "InnerProduct", "Input", "LRN", "LSTM", "LSTMUnit", "Log", "MVN", "MemoryData", "MultiBoxLoss",
    "MultinomialLogisticLoss", "Normalize", "PReLU", "Parameter", "Permute", "Pooling", "Power", "PredictionHeatmap",
    "PriorBox", "Python", "RNN", "ReLU", "Reduction", "Reshape", "SPP", "Scale", "Sigmoid", "SigmoidCrossEntropyLoss",
    "Silence", "Slice", "SmoothL1Loss", "Softmax", "SoftmaxWithLoss", "SpatialTransformer", "Split", "TanH",
    "Threshold", "Tile", "VideoData", "WindowData",
}
RMPE_ALONE = {"AccuracyHeatmap", "DataHeatmap", "EltwiseAffine", "EuclideanLossHeatmap", "PredictionHeatmap",
              "SpatialTransformer"}
SSD = RMPE - RMPE_ALONE  # weiliu89/caffe@4817bf8: 68 types
BVLC = SSD - {"AnnotatedData", "DetectionEvaluate", "DetectionOutput", "MultiBoxLoss", "Normalize", "Permute",
              "PriorBox", "SmoothL1Loss", "VideoData"} | {"Clip", "Swish"}  # BVLC/caffe@9b89154: 61 types
TYPES = {"rmpe": RMPE, "ssd": SSD, "bvlc": BVLC}


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
    assert {name for name in known_types() if not tested.get(name, set()) & set(layer_class(name).dialects)} == set()


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
        with pytest.raises(RmpeError, match=r"evidence.json: No such file.*tools/measure_layers.py writes it"):
            read_evidence(path)
        for text in ("{", "[]", '{"cases": {}}', '{"caffe": "", "machine": "", "cases": {"a": [1]}}'):
            path.write_text(text)
            with pytest.raises(RmpeError, match="holds no measurements"):
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
        assert row["dialects"] == ["rmpe", "ssd", "bvlc"]

    def test_a_type_without_a_case_says_so(self, evidence):
        less = type(evidence)(evidence.caffe, evidence.machine, evidence.proofs[:1])
        assert "not compared" in next(line for line in describe_layers(less).splitlines() if line.startswith("Tile"))

    def test_details_have_the_fields_of_each_dialect(self, evidence):
        fields = layer_details("Pooling", evidence)["reads"]["pooling_param"]
        by_name = {field["name"]: field for field in fields}
        assert by_name["round_mode"]["dialects"] == ["bvlc"]
        assert by_name["stride"]["default"] == "1"
        clip = [f for f in layer_details("PriorBox", evidence)["reads"]["prior_box_param"] if f["name"] == "clip"]
        assert [(f["default"], f["dialects"]) for f in clip] == [("True", ["rmpe"]), ("False", ["ssd"])]

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
        assert f"{len(known_types())} types, 909 cases" in out
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
        assert "tools/measure_layers.py writes it" in err


def test_the_evidence_is_part_of_the_package():
    assert EVIDENCE.is_file()
    assert "layers/evidence.json" in (Path(__file__).parents[1] / "pyproject.toml").read_text()
