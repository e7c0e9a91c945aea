"""rmpe models and rmpe identify: the table, what recognises a file, and the docs that repeat it."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from demo_tools import tool
from paths import ROOT
from shared import shared

from rmpe_legacy import load_net
from rmpe_legacy.caffe.proto.blobs import StoredBlob, TrainedLayer
from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel
from rmpe_legacy.cli import main
from rmpe_legacy.compare.content_hash import weights_hash
from rmpe_legacy.compare.published_models import describe_models, identify_file, published_models
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.formats.read import read_weights_alone
from rmpe_legacy.pose.demo_models import FOLDER


def write(path: Path, layers: dict[str, list[tuple[int, ...]]]) -> Path:
    random = np.random.default_rng(0)
    write_caffemodel(path, [TrainedLayer(name, "", tuple(
        StoredBlob(shape, random.normal(size=int(np.prod(shape))).astype(np.float32)) for shape in shapes))
        for name, shapes in layers.items()])
    return path


def shapes_of(prototxt: str) -> dict[str, list[tuple[int, ...]]]:
    net = load_net(ROOT / "prototxt" / prototxt, de_transform="paper")
    return {name: [tuple(param.shape) for param in params] for name, params in net.params.items()}


class TestTable:
    def test_every_row_says_what_and_where(self):
        models = published_models()
        assert len({model.id for model in models}) == len(models) == 13
        for model in models:
            assert model.what
            assert model.source
            assert model.links or model.id.startswith("demo-")
            assert all(link.startswith(("http://", "https://")) for link in model.links)
            assert not model.prototxt or (ROOT / "prototxt" / model.prototxt).is_file()

    def test_hashes_that_are_given_are_those_of_the_files_at_hand(self):
        given = {model.file: model.weights_sha256 for model in published_models() if model.weights_sha256}
        assert given.keys() == {"demo_detector.caffemodel", "demo_pose.caffemodel"}
        for name, digest in given.items():
            assert weights_hash(read_weights_alone(FOLDER / name)) == digest

    def test_the_docs_have_every_row(self):
        text = (ROOT / "docs" / "models.md").read_text()
        for model in published_models():
            for fact in (f"## {model.id}\n", model.what, model.source, *model.links, model.known, model.instead):
                assert fact in text, fact

    def test_shapes_are_those_of_the_prototxts(self):
        make = tool("make_network_shapes")
        assert json.loads(make.TARGET.read_text()) == make.network_shapes()

    def test_the_command_lists_and_shows(self, capsys):
        assert main(["models"]) == 0
        listed = capsys.readouterr().out
        assert all(model.id in listed for model in published_models())
        assert main(["models", "shg+sstn.caffemodel"]) == 0
        assert "https://drive.google.com/open?id=0BxORzoJl8N9PejV6OUZhUllzQWs" in capsys.readouterr().out
        assert main(["models", "--json", "final-model"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["file"] == "final_model.t7"
        assert main(["models", "nothing"]) == 1
        assert capsys.readouterr().err == "rmpe: no published model 'nothing'; rmpe models lists 13\n"

    def test_an_empty_fact_is_not_shown_but_an_unknown_hash_is(self):
        text = describe_models("final-model")
        assert "size" not in text
        assert "nobody has reported one" in text


class TestIdentify:
    def test_shipped_weights_by_their_content_whatever_the_name(self, tmp_path):
        copy = tmp_path / "some.caffemodel"
        copy.write_bytes((FOLDER / "demo_pose.caffemodel").read_bytes())
        assert "demo-pose: small pose network" in identify_file(copy)

    @pytest.mark.parametrize(("prototxt", "ids"), [("demo/ssd_deploy.prototxt", "demo-detector"),
                                                   ("demo/pose_deploy.prototxt", "demo-pose")])
    def test_other_weights_of_a_known_architecture(self, tmp_path, prototxt, ids):
        said = identify_file(write(tmp_path / "w.caffemodel", shapes_of(prototxt)))
        assert f"all of prototxt/{prototxt}" in said
        assert f"the architecture of {ids}; its content hash has not been reported" in said

    def test_weights_that_training_starts_from(self, tmp_path):
        shapes = {"conv1_1": [(64, 3, 3, 3), (1, 1, 1, 64)], "conv1_2": [(64, 64, 3, 3), (64,)], "fc8": [(9, 9), (9,)]}
        said = identify_file(write(tmp_path / "w.caffemodel", shapes))
        assert "weights of 3 layers; the closest match is prototxt/ssd500/deploy.prototxt" in said
        assert ": 2 of its " in said

    def test_weights_of_something_else(self, tmp_path):
        said = identify_file(write(tmp_path / "w.caffemodel", {"conv1_1": [(5, 5)]}))
        assert "none of them fits a known network" in said

    def test_a_prototxt(self):
        said = identify_file(ROOT / "prototxt" / "sppe_sstn_affine" / "deploy.prototxt")
        assert "all of prototxt/sppe_sstn_affine/deploy.prototxt" in said
        assert "the architecture of sppe-sstn-caffe" in said

    def test_a_prototxt_for_training(self):
        said = identify_file(ROOT / "prototxt" / "ssd500" / "train.prototxt")
        assert "the architecture of human-detector" in said

    def test_mpii_files(self):
        assert "like mpii-groups" in identify_file(shared("mpii_multi", "groups_v12.mat"))
        assert "like mpii-ppn" in identify_file(shared("mpii_multi", "mpi_val_groundtruth.mat"))
        assert "boxes of a detector" in identify_file(shared("authors", "test-bbox.h5"))
        assert "rmpe nms --poses" in identify_file(shared("authors", "testres.h5"))

    def test_a_torch7_network(self):
        found = shared("torch7", "files")
        said = [identify_file(path) for path in sorted(found.rglob("*.t7"))]
        assert said
        assert all("a Torch7 file, none of the published networks" in text for text in said)

    @pytest.mark.parametrize(("content", "said"), [(b"\xff\xd8\xff\xe0", "a JPEG image; none"), (b"", "an empty file")])
    def test_something_else(self, tmp_path, content, said):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert said in identify_file(path)

    def test_other_hdf5(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            file["a"] = [1.0]
        assert "an HDF5 file with a; none of the published files" in identify_file(tmp_path / "x.h5")

    def test_no_such_file(self, capsys):
        with pytest.raises(RmpeError, match="No such file"):
            identify_file("nowhere.caffemodel")
        assert main(["identify", "nowhere.caffemodel"]) == 1
