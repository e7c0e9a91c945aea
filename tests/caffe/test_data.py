"""The data layers: against what the real Caffe gave, and what Caffe's cases do not show."""

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from difference import beyond
from harness import Case, cases

from rmpe_legacy import load_net
from rmpe_legacy.caffe.data.boxes import UNIT, Boxes
from rmpe_legacy.caffe.data.caffe_random import CaffeRandom, LibraryRandom
from rmpe_legacy.caffe.data.caffe_resize import boxes_after
from rmpe_legacy.caffe.data.data_transformer import Cut, DataTransformer, Draws
from rmpe_legacy.caffe.data.datum import parse_datum
from rmpe_legacy.caffe.data.noise import distort
from rmpe_legacy.caffe.data.sampler import sample_boxes
from rmpe_legacy.caffe.net import Net
from rmpe_legacy.caffe.proto.message import Message
from rmpe_legacy.caffe.proto.schema import load_schema
from rmpe_legacy.caffe.proto.text import parse_text
from rmpe_legacy.caffe.proto.wire import encode
from rmpe_legacy.errors import LayerError, RmpeError

F = np.float32


@pytest.mark.parametrize("folder", cases("data"), ids=lambda path: path.name)
def test_gives_what_caffe_gave(folder: Path, tmp_path: Path):
    """To the bit, random ones too: the same under OpenCV 4.8, 4.12 and 5.0."""
    found = Case(folder).compare(tmp_path)
    assert found, "the case compares nothing"
    wrong = beyond(found, 0)
    assert not wrong, "not what Caffe gave:\n" + "\n".join(wrong)


def test_no_case_got_lost():
    assert len(cases("data")) == 78


# --- making stores and networks --------------------------------------------------------------------------------


def message(name: str, text: str, dialect: str = "rmpe") -> Message:
    return parse_text(text, name, dialect=dialect)


def picture(i: int, height: int = 6, width: int = 8) -> np.ndarray:
    """A coloured image, another one for each i."""
    return np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def raw_datum(i: int) -> bytes:
    fields = {"channels": 3, "height": 6, "width": 8, "label": i, "data": picture(i).transpose(2, 0, 1).tobytes()}
    return encode(Message(load_schema()["Datum"], fields))


def encoded_datum(i: int, image: np.ndarray | None = None) -> bytes:
    fields = {"data": png(picture(i) if image is None else image), "label": i, "encoded": True}
    return encode(Message(load_schema()["Datum"], fields))


def annotated(i: int, boxes: list[tuple[float, ...]], height: int = 30, width: int = 40) -> bytes:
    schema = load_schema()
    datum = Message(schema["Datum"], {"channels": 3, "height": height, "width": width, "label": i, "encoded": True,
                                      "data": png(picture(i, height, width))})
    annotations = [
        Message(schema["Annotation"], {"instance_id": n, "bbox": Message(schema["NormalizedBBox"], dict(zip(
            ("xmin", "ymin", "xmax", "ymax"), box, strict=True)))}) for n, box in enumerate(boxes)]
    group = Message(schema["AnnotationGroup"], {"group_label": i + 1, "annotation": annotations})
    return encode(Message(schema["AnnotatedDatum"], {"datum": datum, "type": "BBOX", "annotation_group": [group]}))


def write_lmdb(path: Path, values: list[bytes]) -> Path:
    with lmdb.open(str(path), map_size=1 << 24) as store, store.begin(write=True) as transaction:
        for i, value in enumerate(values):
            transaction.put(b"%03d" % i, value)
    return path


def write_images(folder: Path, count: int, height: int = 6, width: int = 8) -> Path:
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), picture(i, height, width))
    (folder / "list.txt").write_text("".join(f"{folder}/{i}.png {i}\n" for i in range(count)))
    return folder / "list.txt"


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Net]:
    """A network of one data layer: build("Data", 'data_param { ... }', tops=2, phase="TRAIN")."""

    def make(type_name: str, params: str, tops: int = 2, **options) -> Net:
        names = " ".join(f'top: "{name}"' for name in ("data", "label")[:tops])
        file = tmp_path / "net.prototxt"
        file.write_text(f'layer {{ name: "d" type: "{type_name}" {names} {params} }}')
        return load_net(file, **options)

    return make


def store(path: Path, batch: int = 2) -> str:
    return f'data_param {{ source: "{path}" backend: LMDB batch_size: {batch} }}'


def layer_of(net: Net):
    return net.steps[0].layer


# --- meeting the network ---------------------------------------------------------------------------------------


class TestInANetwork:
    @pytest.fixture
    def net(self, build, tmp_path: Path) -> Net:
        return build("Data", store(write_lmdb(tmp_path / "db", [raw_datum(i) for i in range(5)])))

    def test_begins_again_after_the_last_record(self, net: Net):
        assert [net()["label"].tolist() for _ in range(4)] == [[0, 1], [2, 3], [4, 0], [1, 2]]

    def test_gives_the_pixels(self, net: Net):
        want = np.stack([picture(i).transpose(2, 0, 1) for i in (0, 1)])
        np.testing.assert_array_equal(net()["data"].numpy(), want)

    def test_what_the_caller_gives_goes_before_the_store(self, net: Net):
        out = net(data=torch.ones(1, 3, 2, 2), label=torch.zeros(1))
        assert out["data"].shape == (1, 3, 2, 2)
        assert net()["label"].tolist() == [0, 1]  # nothing was taken

    def test_follows_the_networks_type(self, net: Net):
        assert net.double()()["data"].dtype == torch.float64
        assert "place" not in net.state_dict()

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
    def test_a_copy_goes_on_from_the_same_place(self, net: Net, copied):
        net()
        twin = copied(net)
        assert net()["label"].tolist() == twin()["label"].tolist() == [2, 3]

    def test_without_the_second_top_there_are_no_labels(self, build, tmp_path: Path):
        net = build("Data", store(write_lmdb(tmp_path / "db", [raw_datum(0)])), tops=1)
        assert list(net()) == ["data"]


class TestWithoutTheStore:
    def test_shapes_come_from_the_prototxt(self, build):
        net = build("Data", 'data_param { source: "no/db" batch_size: 4 } transform_param { crop_size: 7 }')
        assert net.steps[0].top_shapes == ((4, 3, 7, 7), (4,))
        assert net(data=torch.zeros(4, 3, 7, 7), label=torch.zeros(4))["label"].shape == (4,)

    def test_a_forward_asks_for_it(self, build):
        net = build("Data", 'data_param { source: "no/db" batch_size: 4 } transform_param { crop_size: 7 }')
        with pytest.raises(LayerError, match=r"d \(Data\): its source 'no/db' does not exist; create it, or give its "
                                             r"tops "
                                             r"instead: net\(data=..., label=...\)"):
            net()

    @pytest.mark.parametrize(("type_name", "params", "shapes"), [
        ("Data", "data_param { batch_size: 2 } transform_param { crop_size: 7 force_gray: true }",
         ((2, 1, 7, 7), (2,))),
        ("Data", "data_param { batch_size: 2 } transform_param { crop_h: 7 crop_w: 9 mean_value: 1 mean_value: 2 }",
         ((2, 2, 7, 9), (2,))),
        ("AnnotatedData", "data_param { batch_size: 2 } transform_param { resize_param { height: 4 width: 5 } }",
         ((2, 3, 4, 5), (1, 1, 1, 8))),
        ("ImageData", "image_data_param { batch_size: 2 new_height: 4 new_width: 5 is_color: false }",
         ((2, 1, 4, 5), (2,))),
        ("WindowData", "window_data_param { batch_size: 2 } transform_param { crop_size: 5 }", ((2, 3, 5, 5), (2,))),
        ("VideoData", 'data_param { batch_size: 2 } video_data_param { video_type: VIDEO video_file: "no_%d.png" } '
                      "transform_param { crop_size: 5 }", ((2, 3, 5, 5), (2,))),
        ("VideoData", "data_param { batch_size: 2 } video_data_param { video_type: WEBCAM device_id: 97 } "
                      "transform_param { crop_size: 5 }", ((2, 3, 5, 5), (2,))),
        ("DataHeatmap", 'heatmap_data_param { batchsize: 2 outsize: 9 label_height: 4 label_width: 5 '
                        'labelinds: "1,2,3,4,9,10" }', ((2, 3, 9, 9), (2, 3, 4, 5))),
    ])
    def test_each_layer_knows_its_shapes(self, build, type_name: str, params: str, shapes: tuple):
        assert build(type_name, params).steps[0].top_shapes == shapes

    def test_joints_that_nothing_tells_are_as_many_as_they_are_compared_with(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "DataHeatmap" top: "x" top: "maps" heatmap_data_param { batchsize: 2 '
                        'outsize: 9 label_height: 9 label_width: 9 } } layer { name: "c" type: "Convolution" '
                        'bottom: "x" top: "c" convolution_param { num_output: 7 kernel_size: 1 } } '
                        'layer { name: "l" type: "EuclideanLossHeatmap" bottom: "c" bottom: "maps" bottom: "x" '
                        'top: "l" }')
        with (pytest.warns(UserWarning, match="maps 2 x 7 x 9 x 9, which the layers that read them take"),
              pytest.warns(UserWarning, match="it has no source, and without labelinds only the layers that read")):
            net = load_net(file)
        assert net.steps[0].top_shapes == ((2, 3, 9, 9), (2, 7, 9, 9))

    def test_a_sliced_label_is_as_long_as_its_parts_are_compared_with(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "Data" top: "x" top: "pose" data_param { source: "no" batch_size: 2 } '
                        'transform_param { crop_size: 8 } } layer { name: "s" type: "Slice" bottom: "pose" top: "at" '
                        'top: "turn" slice_param { axis: 1 slice_point: 3 } } layer { name: "f" type: "InnerProduct" '
                        'bottom: "x" top: "f" inner_product_param { num_output: 4 } } '
                        'layer { name: "l" type: "EuclideanLoss" bottom: "f" bottom: "turn" top: "l" }')
        with pytest.warns(UserWarning, match="pose 2 x 7"):
            load_net(file)

    @pytest.mark.parametrize(("type_name", "params", "missing"), [
        ("Data", 'data_param { source: "no/db" batch_size: 1 }', "its source 'no/db' does not exist"),
        ("ImageData", 'image_data_param { source: "no.txt" }', "its source 'no.txt' does not exist"),
        ("VideoData", "data_param { batch_size: 1 } video_data_param { device_id: 97 }", "there is no camera 97"),
    ])
    def test_images_of_unknown_size_are_assumed_to_be_imagenets(self, build, type_name: str, params: str, missing: str):
        with pytest.warns(UserWarning, match=f"{missing}, and nothing else determines the size of its images; "
                                             "3 x 256 x 256 is assumed"):
            net = build(type_name, params)
        assert net.steps[0].top_shapes == ((1, 3, 256, 256), (1,))
        with pytest.raises(LayerError, match=missing):
            net()

    def test_a_batch_of_unknown_size_is_of_one(self, build):
        with pytest.warns(UserWarning, match="its batch_size is not given; a batch of 1 is assumed"):
            net = build("Data", "transform_param { crop_size: 5 }")
        assert net.steps[0].top_shapes == ((1, 3, 5, 5), (1,))

    def test_netscopes_data_layers_have_the_shape_of_an_input(self, build):
        net = build("Data", "input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } }")
        assert net.steps[0].top_shapes == ((2, 3, 4, 5), (2,))

    @pytest.mark.parametrize(("source", "transform", "shape"), [
        ("examples/mnist/mnist_test_lmdb", "", (1, 28, 28)),
        ("mnist-train-leveldb/", "scale: 0.5", (1, 28, 28)),
        ("x/mnist_siamese_train_leveldb", "", (2, 28, 28)),
        ("cifar10-leveldb/cifar-test-leveldb", "", (3, 32, 32)),
        (r"C:\\caffe\\cifar10_train_lmdb", "crop_size: 28", (3, 28, 28)),
        ("mnist_train_lmdb", "crop_size: 24", (1, 24, 24)),
    ])
    def test_the_data_of_caffes_examples_has_a_known_size(self, build, source: str, transform: str, shape: tuple):
        with pytest.warns(UserWarning, match="does not exist; its name suggests"):
            net = build("Data", f'data_param {{ source: "{source}" batch_size: 2 }} transform_param {{ {transform} }}')
        assert net.steps[0].top_shapes == ((2, *shape), (2,))
        with pytest.raises(LayerError, match="does not exist; create it, or give its tops instead"):
            net()

    @pytest.mark.parametrize("source", ["my_mnist_test_lmdb", "mnist_test_lmdb/data", "mnist_r_test_lmdb"])
    def test_other_names_say_nothing_of_the_size(self, build, source: str):
        with pytest.warns(UserWarning, match="nothing else determines"):
            build("Data", f'data_param {{ source: "{source}" batch_size: 2 }}')

    def test_the_rows_of_caffes_hdf5_example_have_a_known_size(self, build):
        with pytest.warns(UserWarning, match="with 4 features and a label"):
            net = build("HDF5Data", 'hdf5_data_param { source: "hdf5_classification/data/test.txt" batch_size: 3 }')
        assert net.steps[0].top_shapes == ((3, 4), (3,))
        with pytest.raises(LayerError, match=r"its source 'hdf5_classification/data/test\.txt' does not exist"):
            net()

    @pytest.mark.parametrize(("users", "shapes"), [
        ('layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 '
         'kernel_size: 1 } } layer { name: "f" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { '
         'num_output: 5 } } layer { name: "l" type: "EuclideanLoss" bottom: "f" bottom: "label" top: "l" }',
         ((3, 3, 256, 256), (3, 5))),
        ('layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { global_pooling: true } } '
         'layer { name: "l" type: "SoftmaxWithLoss" bottom: "p" bottom: "label" top: "l" } '
         'layer { name: "a" type: "Accuracy" bottom: "p" bottom: "label" top: "a" }', ((3, 3, 256, 256), (3,))),
        ('layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 2 '
         'kernel_size: 5 stride: 2 } } layer { name: "l" type: "EuclideanLoss" bottom: "c" bottom: "label" top: "l" }',
         ((3, 3, 256, 256), (3, 2, 126, 126))),
        ('layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { global_pooling: true } } '
         'layer { name: "s" type: "Slice" bottom: "label" top: "l1" top: "l2" slice_param { slice_point: 4 } } '
         'layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 4 } } '
         'layer { name: "e" type: "EuclideanLoss" bottom: "f" bottom: "l1" top: "e" } '
         'layer { name: "a" type: "Accuracy" bottom: "p" bottom: "l2" top: "a" }', ((3, 3, 256, 256), (3, 5))),
    ])
    def test_rows_that_are_not_there_have_the_shape_that_their_use_tells(self, tmp_path: Path, users: str,
                                                                         shapes: tuple):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "HDF5Data" top: "data" top: "label" '
                        f'hdf5_data_param {{ source: "no.txt" batch_size: 3 }} }} {users}')
        with pytest.warns(UserWarning, match="from the layers that use them, its tops are assumed to be data 3 x 3 x"):
            net = load_net(file)
        assert net.steps[0].top_shapes == shapes
        with pytest.raises(LayerError, match=r"its source 'no\.txt' does not exist"):
            net()

    def test_words_marks_and_joined_values_are_one_a_row(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text("""
layer { name: "d" type: "HDF5Data" top: "cont" top: "words" top: "a" top: "b" top: "target"
  hdf5_data_param { source: "no.txt" batch_size: 5 } }
layer { name: "e" type: "Embed" bottom: "words" top: "e" embed_param { input_dim: 7 num_output: 4 bias_term: false } }
layer { name: "r" type: "LSTM" bottom: "e" bottom: "cont" top: "r" recurrent_param { num_output: 3 } }
layer { name: "c" type: "Concat" bottom: "a" bottom: "b" top: "c" concat_param { axis: 1 } }
layer { name: "s" type: "Silence" bottom: "c" bottom: "r" bottom: "target" }""")
        with pytest.warns(UserWarning, match="assumed to be cont 5 x 1, words 5 x 1, a 5 x 1, b 5 x 1, target 5"):
            load_net(file)

    def test_an_image_that_a_convolution_is_added_to_has_its_channels(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "HDF5Data" top: "data" top: "label" '
                        'hdf5_data_param { source: "no.txt" batch_size: 2 } } '
                        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
                        'convolution_param { num_output: 1 kernel_size: 3 pad: 1 } } '
                        'layer { name: "s" type: "Eltwise" bottom: "data" bottom: "c" top: "s" } '
                        'layer { name: "l" type: "EuclideanLoss" bottom: "s" bottom: "label" top: "l" }')
        with pytest.warns(UserWarning, match="assumed to be data 2 x 1 x 256 x 256, label 2 x 1 x 256 x 256"):
            load_net(file)

    def test_rows_that_are_joined_to_an_image_are_images(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "HDF5Data" top: "a" top: "b" top: "c" '
                        'hdf5_data_param { source: "no.txt" batch_size: 2 } } '
                        'layer { name: "j" type: "Concat" bottom: "a" bottom: "b" top: "j" } '
                        'layer { name: "v" type: "Convolution" bottom: "j" top: "v" '
                        'convolution_param { num_output: 1 kernel_size: 3 } } '
                        'layer { name: "r" type: "ReLU" bottom: "c" top: "r" }')
        with pytest.warns(UserWarning, match="assumed to be a 2 x 3 x 256 x 256, b 2 x 3 x 256 x 256, c 2$"):
            load_net(file)

    def test_of_two_that_do_not_suit_the_one_that_nothing_has_read_changes(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "HDF5Data" top: "image" top: "mask" top: "alpha" '
                        'hdf5_data_param { source: "no.txt" batch_size: 2 } } '
                        'layer { name: "j" type: "Concat" bottom: "mask" bottom: "image" top: "j" } '
                        'layer { name: "v" type: "Convolution" bottom: "j" top: "v" '
                        'convolution_param { num_output: 1 kernel_size: 3 } } '
                        'layer { name: "k" type: "Concat" bottom: "mask" bottom: "alpha" top: "k" }')
        with pytest.warns(UserWarning, match="assumed to be"):
            image, mask, alpha = load_net(file).steps[0].top_shapes
        assert image == mask
        assert (len(alpha), alpha[2:]) == (4, mask[2:])

    def test_rows_whose_use_tells_nothing_are_asked_for(self, tmp_path: Path):
        file = tmp_path / "net.prototxt"
        file.write_text('layer { name: "d" type: "HDF5Data" top: "x" hdf5_data_param { source: "no.txt" batch_size: 1 }'
                        ' } layer { name: "f" type: "InnerProduct" bottom: "x" top: "f" '
                        'inner_product_param { num_output: 5 } }')
        with pytest.raises(LayerError, match=r"its source 'no\.txt' does not exist, and nothing else determines"):
            load_net(file)

    def test_weiliu89s_small_size_tells_nothing(self, build):
        resize = "resize_param { resize_mode: FIT_SMALL_SIZE height: 4 width: 5 }"
        with pytest.warns(UserWarning, match="nothing else determines"):
            build("AnnotatedData", f"data_param {{ batch_size: 1 }} transform_param {{ {resize} }}", dialect="ssd")


class TestDamage:
    """Whatever is wrong with a file: one sentence with the layer's name and the file's."""

    def test_a_truncated_store(self, build, tmp_path: Path):
        file = write_lmdb(tmp_path / "db", [raw_datum(i) for i in range(50)]) / "data.mdb"
        file.write_bytes(file.read_bytes()[:8192])
        with pytest.raises(LayerError, match=r"d \(Data\): .*data.mdb: not a readable LMDB"):
            build("Data", store(tmp_path / "db"))

    def test_a_record_that_is_none(self, build, tmp_path: Path):
        net = build("Data", store(write_lmdb(tmp_path / "db", [raw_datum(0), b"\x22\xff\xff"])))
        with pytest.raises(LayerError, match=r"d \(Data\): .*db: record 001: not a readable protobuf"):
            net()

    def test_a_record_with_too_few_values(self, build, tmp_path: Path):
        short = encode(Message(load_schema()["Datum"], {"channels": 3, "height": 60000, "width": 60000, "data": b"1"}))
        net = build("Data", store(write_lmdb(tmp_path / "db", [raw_datum(0), short])))
        with pytest.raises(LayerError, match="record 001: an image of 3 x 60000 x 60000 with 1 values"):
            net()

    def test_a_truncated_picture(self, build, tmp_path: Path):
        list_file = write_images(tmp_path, 2)
        (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:20])
        net = build("ImageData", f'image_data_param {{ source: "{list_file}" batch_size: 2 }}')
        with pytest.raises(LayerError, match=r"d \(ImageData\): .*1.png: not a readable image"):
            net()

    def test_a_list_of_nothing(self, build, tmp_path: Path):
        (tmp_path / "list.txt").write_text("")
        with pytest.raises(LayerError, match=r"list.txt: the list is empty"):
            build("ImageData", f'image_data_param {{ source: "{tmp_path}/list.txt" }}')
        (tmp_path / "list.txt").write_bytes(b"\0\1\2")
        with pytest.raises(LayerError, match=r"list.txt: not text; a list of images is expected"):
            build("ImageData", f'image_data_param {{ source: "{tmp_path}/list.txt" }}')

    def test_a_mean_of_another_kind(self, build, tmp_path: Path):
        (tmp_path / "mean.binaryproto").write_bytes(b"hello")
        net = build("Data", store(write_lmdb(tmp_path / "db", [raw_datum(0)]))
                    + f' transform_param {{ mean_file: "{tmp_path}/mean.binaryproto" }}')
        with pytest.raises(LayerError, match=r"d \(Data\): .*mean.binaryproto"):
            net()


@pytest.mark.parametrize(("type_name", "params", "reason"), [
    ("Data", 'data_param { source: "/" } transform_param { crop_size: 3 }', "needs a batch_size above 0"),
    ("Data", 'data_param { batch_size: 1 } transform_param { crop_size: 3 mean_file: "m" mean_value: 1 }', "keep one"),
    ("Data", "data_param { batch_size: 1 } transform_param { crop_size: 3 force_gray: true force_color: true }",
     "force_color and force_gray; keep one"),
    ("ImageData", "image_data_param { new_height: 4 }", "new_height and new_width belong together"),
    ("WindowData", "window_data_param { batch_size: 1 }", "needs a crop_size"),
    ("MemoryData", "memory_data_param { batch_size: 1 channels: 2 height: 3 }", "needs batch_size, channels, height"),
    ("VideoData", "data_param { batch_size: 1 } video_data_param { video_type: VIDEO }", "needs a video_file"),
    ("HDF5Data", 'hdf5_data_param { batch_size: 1 } transform_param { scale: 2 }', "does not transform"),
    ("DataHeatmap", 'heatmap_data_param { batchsize: 1 outsize: 2 bbox_or_centerscale: "x" }', "neither 'bbox' nor"),
    ("DataHeatmap", "visualise: true heatmap_data_param { batchsize: 1 outsize: 2 }", "opens windows"),
    ("AnnotatedData", "data_param { batch_size: 1 } transform_param { crop_size: 3 } annotated_data_param { "
                      "batch_sampler { sampler { min_scale: 0.5 max_scale: 0.3 } } }", "a sampler with scales"),
    ("DummyData", "dummy_data_param { shape { dim: 1 } num: 2 }", "has shape and num; keep shape"),
    ("DummyData", "dummy_data_param { num: 2 channels: 3 height: 1 }", "has width 0 times for 2 tops"),
    ("DummyData", "dummy_data_param { shape { dim: 1 } shape { dim: 1 } shape { dim: 2 } }", "has shape 3 times"),
])
def test_parameters_that_cannot_be_are_refused(build, type_name: str, params: str, reason: str):
    with pytest.raises(LayerError, match=rf"d \({type_name}\): .*{reason}"):
        build(type_name, params)


def test_fields_that_caffe_never_reads_are_named(build, tmp_path: Path):
    write_lmdb(tmp_path / "db", [raw_datum(0)])
    with pytest.warns(UserWarning, match=r"data_param.rand_skip has no effect in Caffe, nor here$"):
        build("Data", f'data_param {{ source: "{tmp_path}/db" backend: LMDB batch_size: 1 rand_skip: 5 }}')
    params = f'data_param {{ source: "{tmp_path}/db" backend: LMDB batch_size: 1 mirror: true }}'
    with pytest.warns(UserWarning, match=r"data_param.mirror has no effect .* nor here; set it in transform"):
        build("Data", params)
    with pytest.warns(UserWarning, match=r"resize_param.prob has no effect"):
        build("Data", store(tmp_path / "db") + " transform_param { resize_param { prob: 0.5 height: 6 width: 8 } }")


# --- images --------------------------------------------------------------------------------------------------


class TestTransformer:
    def transformer(self, text: str, phase: str = "TEST", dialect: str = "rmpe") -> DataTransformer:
        draws = Draws(CaffeRandom(1), CaffeRandom(2), LibraryRandom())
        return DataTransformer(message("TransformationParameter", text, dialect), phase, draws)

    def apply(self, transformer: DataTransformer, image) -> tuple[np.ndarray, Cut]:
        blob = np.empty(transformer.shape_of(image), F)
        return blob, transformer.apply(image, blob)

    def mean(self, tmp_path: Path, *shape: int) -> tuple[str, np.ndarray]:
        values = np.random.default_rng(9).normal(100, 20, shape).astype(F)
        blob = Message(load_schema()["BlobProto"], {
            "num": 1, "channels": shape[0], "height": shape[1], "width": shape[2], "data": values.ravel()})
        (tmp_path / "mean.binaryproto").write_bytes(encode(blob))
        return f'mean_file: "{tmp_path}/mean.binaryproto"', values

    @pytest.mark.parametrize("encoded", [True, False])
    def test_training_crops_and_mirrors_at_random(self, encoded: bool):
        transformer = self.transformer("crop_size: 4 mirror: true", "TRAIN")
        image = picture(0)
        given = image if encoded else parse_datum(raw_datum(0), "x")
        seen = set()
        for _ in range(200):
            blob, cut = self.apply(transformer, given)
            whole = image.transpose(2, 0, 1)[:, :, ::-1] if cut.mirrored else image.transpose(2, 0, 1)
            found = [(h, w) for h in range(3) for w in range(5)
                     if np.array_equal(blob, whole[:, h : h + 4, w : w + 4])]
            assert len(found) == 1
            seen.add((cut.mirrored, *found[0]))
        assert len(seen) == 30

    def test_a_crop_of_two_sides_alone_is_drawn_in_training(self):
        """Differs: Caffe aborts."""
        transformer = self.transformer("crop_h: 4 crop_w: 5", "TRAIN")
        assert len({self.apply(transformer, picture(0))[0].tobytes() for _ in range(100)}) == 12

    @pytest.mark.parametrize("dialect", ["rmpe", "ssd", "bvlc"])
    def test_the_mean_under_a_mirrored_picture(self, tmp_path: Path, dialect: str):
        """BVLC mirrors it with the image, the others subtract it as it is."""
        text, mean = self.mean(tmp_path, 3, 6, 8)
        transformer = self.transformer(f"{text} mirror: true scale: 0.5", dialect=dialect)
        image = picture(3)
        for _ in range(10):
            blob, cut = self.apply(transformer, image)
            values = image.transpose(2, 0, 1).astype(F)
            if cut.mirrored:
                values = values[..., ::-1]
                under = mean[..., ::-1] if dialect == "bvlc" else mean
                np.testing.assert_array_equal(blob, (values - under) * F(0.5))
        raw, cut = self.apply(transformer, parse_datum(raw_datum(3), "x"))
        plain = (image.transpose(2, 0, 1).astype(F) - mean) * F(0.5)
        np.testing.assert_array_equal(raw, plain[..., ::-1] if cut.mirrored else plain)

    def test_bvlc_crops_the_mean_with_an_encoded_picture_and_the_others_refuse(self, tmp_path: Path):
        text, mean = self.mean(tmp_path, 3, 6, 8)
        blob, _ = self.apply(self.transformer(f"{text} crop_size: 4", dialect="bvlc"), picture(1))
        want = picture(1).transpose(2, 0, 1)[:, 1:5, 2:6].astype(F) - mean[:, 1:5, 2:6]
        np.testing.assert_array_equal(blob, want)
        for dialect in ("rmpe", "ssd"):
            with pytest.raises(RmpeError, match=r"an image of 3 x 4 x 4, the mean_file .* has 3 x 6 x 8"):
                self.apply(self.transformer(f"{text} crop_size: 4", dialect=dialect), picture(1))

    def test_the_mean_lies_under_the_crop_of_a_larger_picture(self, tmp_path: Path):
        """Differs: weiliu89's branch reads beyond the mean."""
        text, mean = self.mean(tmp_path, 3, 4, 4)
        blob, _ = self.apply(self.transformer(f"{text} crop_size: 4", dialect="ssd"), picture(1))
        np.testing.assert_array_equal(blob, picture(1).transpose(2, 0, 1)[:, 1:5, 2:6].astype(F) - mean)

    def test_raw_records_are_neither_resized_nor_cut_by_sides(self):
        for text in ("resize_param { height: 4 width: 4 }", "crop_h: 4 crop_w: 4"):
            with pytest.raises(RmpeError, match="act on encoded images only"):
                self.apply(self.transformer(text), parse_datum(raw_datum(0), "x"))

    def test_pictures_of_one_batch_need_one_size(self):
        transformer = self.transformer("")
        blob = np.empty((3, 6, 8), F)
        with pytest.raises(RmpeError, match=r"an image of 7 x 6 .* in a batch of 8 x 6"):
            transformer.apply(picture(0, 6, 7), blob)
        transformer.apply(picture(0, 7, 9), blob)  # its top left, as Caffe
        np.testing.assert_array_equal(blob, picture(0, 7, 9)[:6, :8].transpose(2, 0, 1))
        with pytest.raises(RmpeError, match="must have the same size"):
            self.transformer("", dialect="bvlc").apply(picture(0, 7, 9), blob)
        with pytest.raises(RmpeError, match="an image of 1 channels in a batch of 3"):
            transformer.apply(picture(0)[..., 0], blob)
        with pytest.raises(RmpeError, match="smaller than the crop of 9 x 9"):
            self.transformer("crop_size: 9").shape_of(picture(0))

    @pytest.mark.parametrize("text", [
        "decolorize: true", "gauss_blur: true", "hist_eq: true", "clahe: true", "jpeg: 30", "erode: true",
        "posterize: true", "inverse: true", "convert_to_hsv: true", "convert_to_lab: true",
        "saltpepper: true saltpepper_param { fraction: 0.3 value: 255 value: 0 value: 7 }",
    ])
    def test_each_noise_changes_the_picture(self, text: str):
        plain, _ = self.apply(self.transformer(""), picture(5, 20, 24))
        noisy, _ = self.apply(self.transformer(f"noise_param {{ {text} }}"), picture(5, 20, 24))
        assert noisy.shape == plain.shape
        assert (noisy != plain).mean() > 0.1

    def test_noise_has_the_values_that_its_name_says(self):
        image = picture(5, 20, 24)
        values = image.transpose(2, 0, 1).astype(np.int64)
        assert (self.apply(self.transformer("noise_param { inverse: true }"), image)[0] == 255 - values).all()
        assert (self.apply(self.transformer("noise_param { posterize: true }"), image)[0]
                == values // 64 * 64 + 32).all()
        salted, _ = self.apply(self.transformer(
            "noise_param { saltpepper: true saltpepper_param { fraction: 0.1 value: 9 } }"), image)
        changed = (salted != values).any(axis=0)
        assert 0 < changed.sum() <= 48
        assert (salted[:, changed] == 9).all()

    def test_lab_gives_the_bytes_of_its_floats(self):
        """As published: the blob's values are bytes of single-precision numbers."""
        image = picture(5, 4, 8)
        lab = cv2.cvtColor(image.astype(F) * F(1 / 255), cv2.COLOR_BGR2Lab)
        blob, _ = self.apply(self.transformer("noise_param { convert_to_lab: true }"), image)
        rows = lab.reshape(4, -1).view(np.uint8)[:, :24].reshape(4, 8, 3)
        np.testing.assert_array_equal(blob, rows.transpose(2, 0, 1))

    def test_one_of_several_interpolations_is_drawn(self):
        transformer = self.transformer("resize_param { height: 5 width: 4 interp_mode: LINEAR interp_mode: NEAREST }")
        results = {self.apply(transformer, picture(2))[0].tobytes() for _ in range(30)}
        want = {cv2.resize(picture(2), (4, 5), interpolation=mode).transpose(2, 0, 1).astype(F).tobytes()
                for mode in (cv2.INTER_LINEAR, cv2.INTER_NEAREST)}
        assert results == want

    def test_one_pad_value_is_for_all_channels(self):
        transformer = self.transformer("resize_param { resize_mode: FIT_LARGE_SIZE_AND_PAD height: 8 width: 8 "
                                       "pad_value: 7 }")
        blob, _ = self.apply(transformer, picture(2))
        assert (blob[:, 0] == 7).all()
        assert (blob[:, 7] == 7).all()


# --- boxes -----------------------------------------------------------------------------------------------------


class TestBoxes:
    def test_rmpes_missing_brackets_lose_the_boxes_of_tall_pictures(self):
        text = "resize_mode: FIT_LARGE_SIZE_AND_PAD height: 40 width: 40"
        ours = boxes_after(message("ResizeParameter", text), UNIT, 60, 30)
        np.testing.assert_array_equal(ours, np.array([0.75, 0, 0.25, 1], F))  # 40 - 0.5 * 40 / 2 = 30 of 40
        fixed = boxes_after(message("ResizeParameter", text, "ssd"), UNIT, 60, 30)
        np.testing.assert_array_equal(fixed, np.array([0.25, 0, 0.75, 1], F))

    def boxes(self) -> Boxes:
        xyxy = np.array([[0.1, 0.1, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9]], F)
        n = len(xyxy)
        return Boxes(np.arange(n), np.zeros(n, int), xyxy, np.zeros(n, bool), np.full(n, np.nan, F))

    def sampler(self, text: str, dialect: str = "rmpe") -> Message:
        return message("BatchSampler", text, dialect)

    @pytest.mark.parametrize("dialect", ["rmpe", "ssd"])
    def test_samples_lie_in_the_picture_and_meet_the_constraint(self, dialect: str):
        sampler = self.sampler("sampler { min_scale: 0.3 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } "
                               "sample_constraint { min_object_coverage: 0.9 } max_trials: 200", dialect)
        found = np.array(sample_boxes([sampler], self.boxes(), CaffeRandom(4)))
        assert 20 < len(found) < 200
        assert (found >= 0).all()
        assert (found <= 1.000001).all()
        for box in found:
            inside = [max(0, min(box[2], b[2]) - max(box[0], b[0])) * max(0, min(box[3], b[3]) - max(box[1], b[1]))
                      for b in self.boxes().xyxy]
            assert max(inside) / 0.09 > 0.8999

    def test_a_side_longer_than_1_by_rounding_begins_at_0(self):
        longer = 0
        for percent in range(30, 100):
            scale = f"min_scale: 0.{percent} max_scale: 0.{percent} min_aspect_ratio: 99 max_aspect_ratio: 99"
            sampler = self.sampler(f"sampler {{ {scale} }} max_trials: 1", "ssd")  # as wide as the image, about
            [box] = sample_boxes([sampler], self.boxes(), CaffeRandom(4))
            if box[2] - box[0] > 1:
                longer += 1
                assert box[0] == 0
        assert longer > 0

    def test_only_the_first_constraint_counts(self):
        """As published: a sample that meets the overlap is taken, whatever else is asked."""
        both = self.sampler("sampler { min_scale: 0.3 } max_trials: 100 sample_constraint { min_jaccard_overlap: 0.2 "
                            "min_object_coverage: 2 }")
        one = self.sampler("sampler { min_scale: 0.3 } max_trials: 100 sample_constraint { min_jaccard_overlap: 0.2 }")
        a, b = (sample_boxes([s], self.boxes(), CaffeRandom(4)) for s in (both, one))
        assert len(a) == len(b) > 3

    @pytest.mark.parametrize("text", [
        "sampler { min_scale: 0.3 min_aspect_ratio: 0.5 max_aspect_ratio: 2 } sample_constraint { "
        "min_jaccard_overlap: 0.3 } max_sample: 2 max_trials: 150",
        "sampler { min_scale: 0.99 max_scale: 1 } max_trials: 9",
        "max_sample: 1 max_trials: 1",
    ])
    @pytest.mark.parametrize("dialect", ["rmpe", "ssd"])
    def test_many_trials_at_once_draw_no_more_than_one_by_one(self, monkeypatch, text: str, dialect: str):
        for seed in range(20):
            both = []
            for at_once in (64, 1):
                monkeypatch.setattr("rmpe_legacy.caffe.data.sampler.AT_ONCE", at_once)
                random = CaffeRandom(seed)
                found = sample_boxes([self.sampler(text, dialect)] * 2, self.boxes(), random)
                both.append((np.array(found).tolist(), random.raw()))
            assert both[0] == both[1]

    def test_a_sampler_whose_boxes_cannot_fit_is_refused(self):
        sampler = self.sampler("sampler { min_scale: 0.9 min_aspect_ratio: 3 max_aspect_ratio: 4 }")
        with pytest.raises(RmpeError, match=r"scales .* cannot have aspect ratios of 3.0 to 4.0"):
            sample_boxes([sampler], self.boxes(), CaffeRandom(1))

    def test_max_sample_ends_the_trials(self):
        sampler = self.sampler("sampler { min_scale: 0.3 } max_sample: 3 max_trials: 50")
        assert len(sample_boxes([sampler], self.boxes(), CaffeRandom(4))) == 3
        unused = self.sampler("use_original_image: false sampler { min_scale: 0.3 }")
        assert sample_boxes([unused], self.boxes(), CaffeRandom(4)) == []

    @pytest.mark.parametrize("dialect", ["rmpe", "ssd"])
    def test_samplers_move_the_boxes_with_the_picture(self, build, tmp_path: Path, dialect: str):
        path = write_lmdb(tmp_path / "db", [annotated(i, [(0.25, 0.25, 0.75, 0.75)]) for i in range(3)])
        net = build("AnnotatedData", store(path, 3) + " transform_param { mirror: true resize_param { height: 12 "
                    "width: 16 } } annotated_data_param { batch_sampler { max_sample: 1 max_trials: 50 sampler { "
                    "min_scale: 0.5 max_scale: 0.9 min_aspect_ratio: 0.8 max_aspect_ratio: 1.2 } sample_constraint { "
                    "min_object_coverage: 0.99 } } }", phase="TRAIN", dialect=dialect)
        torch.manual_seed(3)
        for _ in range(4):
            out = net()
            rows = out["label"][0, 0].numpy()
            assert out["data"].shape == (3, 3, 12, 16)
            assert rows[:, 0].tolist() == [0, 1, 2]
            assert rows[:, 1].tolist() == [1, 2, 3]
            sides = rows[:, 5:7] - rows[:, 3:5]
            assert (sides > 0.5).all()  # of a part of the image, the box fills more
            assert (rows[:, 3:7] >= 0).all()
            assert (rows[:, 3:7] <= 1).all()

    def test_an_expanded_picture_shrinks_its_boxes(self, build, tmp_path: Path):
        path = write_lmdb(tmp_path / "db", [annotated(i, [(0.25, 0.25, 0.75, 0.75)]) for i in range(3)])
        net = build("AnnotatedData", store(path, 3) + " transform_param { mean_value: 104 mean_value: 117 "
                    "mean_value: 123 resize_param { height: 60 width: 80 } expand_param { prob: 1 max_expand_ratio: 4 "
                    "} distort_param { brightness_prob: 1 brightness_delta: 32 hue_prob: 1 hue_delta: 18 "
                    "saturation_prob: 1 saturation_lower: 0.5 saturation_upper: 1.5 contrast_prob: 1 contrast_lower: "
                    "0.5 contrast_upper: 1.5 random_order_prob: 1 } } annotated_data_param { }", dialect="ssd",
                    phase="TRAIN")
        out = net()
        rows = out["label"][0, 0].numpy()
        ratio = (rows[:, 5:7] - rows[:, 3:5]) / 0.5
        assert ((ratio > 0.24) & (ratio <= 1)).all()
        np.testing.assert_allclose(ratio[:, 0], ratio[:, 1], rtol=0.1)
        assert out["data"].abs().median() < 3  # most of the canvas is the mean

    def test_weiliu89s_boxes_follow_the_crop_of_a_decoded_picture(self, build, tmp_path: Path):
        path = write_lmdb(tmp_path / "db", [annotated(0, [(0.5, 0.5, 0.75, 0.75)], 40, 40)])
        params = store(path, 1) + " transform_param { crop_size: 20 }"
        rmpe = build("AnnotatedData", params)()["label"][0, 0, 0, 3:7]
        ssd = build("AnnotatedData", params, dialect="ssd")()["label"][0, 0, 0, 3:7]
        assert rmpe.tolist() == [0.5, 0.5, 0.75, 0.75]
        assert ssd.tolist() == [0.5, 0.5, 1, 1]

    def test_weiliu89s_small_size_keeps_the_aspect(self, build, tmp_path: Path):
        path = write_lmdb(tmp_path / "db", [annotated(0, [(0, 0, 1, 1)], 30, 60), annotated(1, [], 50, 40)])
        net = build("AnnotatedData", store(path, 1) + " transform_param { resize_param { resize_mode: FIT_SMALL_SIZE "
                    "height: 20 width: 20 } }", dialect="ssd")
        assert [tuple(net()["data"].shape) for _ in range(2)] == [(1, 3, 20, 40), (1, 3, 25, 20)]
        assert net()["label"].tolist() == [[[[0, 1, 0, 0, 0, 1, 1, 0]]]]
        with pytest.raises(LayerError, match="set batch_size to 1"):
            build("AnnotatedData", store(path, 2) + " transform_param { resize_param { resize_mode: FIT_SMALL_SIZE "
                  "height: 20 width: 20 } }", dialect="ssd")

    def test_distortion_without_probabilities_changes_nothing(self):
        param = message("DistortionParameter", "", "ssd")
        np.testing.assert_array_equal(distort(picture(1), param, CaffeRandom(1), LibraryRandom()), picture(1))

    def test_reordering_is_a_permutation_of_the_channels(self):
        param = message("DistortionParameter", "random_order_prob: 1", "ssd")
        library = LibraryRandom()
        orders = {tuple(int(np.argmax([(out[..., c] == picture(1)[..., k]).all() for k in range(3)]))
                        for c in range(3))
                  for out in (distort(picture(1), param, CaffeRandom(1), library) for _ in range(60))}
        assert len(orders) == 6


# --- lists, windows, frames, arrays ----------------------------------------------------------------------------


class TestImageData:
    def params(self, tmp_path: Path, more: str = "", count: int = 5) -> str:
        return f'image_data_param {{ source: "{write_images(tmp_path, count)}" batch_size: {count} {more} }}'

    def test_shuffles_anew_in_each_epoch_and_by_its_seed(self, build, tmp_path: Path):
        params = self.params(tmp_path, "shuffle: true", 7)

        def epochs(seed: int) -> list[list[float]]:
            torch.manual_seed(seed)
            net = build("ImageData", params)
            return [net()["label"].tolist() for _ in range(3)]

        first = epochs(1)
        assert all(sorted(epoch) == list(range(7)) for epoch in first)
        assert len(set(map(tuple, first))) == 3
        assert epochs(1) == first
        assert epochs(2) != first

    def test_a_layer_can_begin_again_with_a_seed(self, build, tmp_path: Path):
        net = build("ImageData", self.params(tmp_path, "shuffle: true", 7))
        layer_of(net).seed(5)
        first = [net()["label"].tolist() for _ in range(2)]
        layer_of(net).seed(5)
        assert [net()["label"].tolist() for _ in range(2)] == first

    def test_skips_at_random(self, build, tmp_path: Path):
        params = self.params(tmp_path, "rand_skip: 4")
        starts = set()
        for seed in range(20):
            torch.manual_seed(seed)
            labels = build("ImageData", params)()["label"].tolist()
            assert labels == [(labels[0] + i) % 5 for i in range(5)]
            starts.add(labels[0])
        assert starts == {0, 1, 2, 3}

    def test_a_line_without_a_label_is_its_own(self, build, tmp_path: Path):
        write_images(tmp_path, 1)
        os.rename(tmp_path / "0.png", tmp_path / "12.png")
        (tmp_path / "list.txt").write_text("12.png\n12.png 3 \r\n")
        net = build("ImageData", f'image_data_param {{ source: "{tmp_path}/list.txt" root_folder: "{tmp_path}/" }}')
        assert net()["label"].tolist() == [12]
        with pytest.raises(LayerError, match=r"12.png 3: No such file"):
            net()


class TestWindowData:
    def net(self, build, tmp_path: Path, more: str = "", transform: str = "", windows: str = "") -> Net:
        write_images(tmp_path, 1, 30, 40)
        (tmp_path / "w.txt").write_text(windows or f"# 0\n{tmp_path}/0.png\n3\n30\n40\n2\n1 0.9 5 5 20 24\n"
                                                   "2 0.1 0 0 9 9\n")
        return build("WindowData", f'window_data_param {{ source: "{tmp_path}/w.txt" batch_size: 4 fg_fraction: 0.5 '
                                   f"{more} }} transform_param {{ crop_size: 12 {transform} }}")

    def test_background_comes_first(self, build, tmp_path: Path):
        assert self.net(build, tmp_path)()["label"].tolist() == [0, 0, 1, 1]

    def test_mirrors_the_window_and_its_padding(self, build, tmp_path: Path):
        plain = self.net(build, tmp_path, "context_pad: 3")()["data"][0].numpy()
        torch.manual_seed(1)
        mirrored = self.net(build, tmp_path, "context_pad: 3", "mirror: true")
        seen = {bool((out == plain).all()) for out in (mirrored()["data"][0].numpy() for _ in range(10))}
        assert seen == {True, False}
        for _ in range(10):
            out = mirrored()["data"][0].numpy()
            assert (out == plain).all() or (out == plain[..., ::-1]).all()

    @pytest.mark.parametrize(("more", "transform", "windows", "reason"), [
        ("", "", "# 0\n{0}/0.png\n3\n30\n40\n2\n1 0.9 5 5 50 24\n2 0.1 0 0 9 9\n", "is outside its image"),
        ("context_pad: 6", "", "", "leaves nothing of a crop_size of 12"),
        ("context_pad: 7", "", "", "more than half of crop_size"),
        ("", "mean_value: 1 mean_value: 2", "", "mean_value is given 2 times"),
        ("", "", "# 0\n{0}/1.png\n3\n30\n40\n2\n1 0.9 5 5 20 24\n2 0.1 0 0 9 9\n", "1.png: No such file"),
    ])
    def test_says_what_is_wrong(self, build, tmp_path: Path, more: str, transform: str, windows: str, reason: str):
        net = self.net(build, tmp_path, more, transform, windows.format(tmp_path))
        with pytest.raises(LayerError, match=reason):
            net()


class TestVideoData:
    def net(self, build, tmp_path: Path, more: str = "", **options) -> Net:
        for i in range(7):
            cv2.imwrite(str(tmp_path / f"f_{i:02d}.png"), picture(i))
        return build("VideoData", f'data_param {{ batch_size: 2 }} video_data_param {{ video_type: VIDEO {more} '
                                  f'video_file: "{tmp_path}/f_%02d.png" }}', **options)

    def test_the_end_is_an_error(self, build, tmp_path: Path):
        net = self.net(build, tmp_path)
        for i in (0, 2, 4):
            np.testing.assert_array_equal(net()["data"][1].numpy(), picture(i + 1).transpose(2, 0, 1))
        with pytest.raises(LayerError, match="all 7 frames are read; the video has no more"):
            net()

    def test_skips_frames(self, build, tmp_path: Path):
        """Differs: weiliu89's branch aborts."""
        net = self.net(build, tmp_path, "skip_frames: 2", dialect="ssd")
        np.testing.assert_array_equal(net()["data"].numpy(),
                                      np.stack([picture(i).transpose(2, 0, 1) for i in (2, 5)]))

    def test_a_copy_goes_on_from_the_same_frame(self, build, tmp_path: Path):
        net = self.net(build, tmp_path)
        net()
        twin = copy.deepcopy(net)
        assert torch.equal(net()["data"], twin()["data"])

    def test_a_file_that_is_no_video(self, build, tmp_path: Path):
        (tmp_path / "x.avi").write_bytes(b"hello" * 100)
        net = build("VideoData", f'data_param {{ batch_size: 2 }} video_data_param {{ video_type: VIDEO video_file: '
                                 f'"{tmp_path}/x.avi" }} transform_param {{ crop_size: 3 }}')
        with pytest.raises(LayerError, match=r"x.avi: not a video or sequence of images"):
            net()


class TestMemoryData:
    PARAMS = "memory_data_param { batch_size: 2 channels: 3 height: 6 width: 8 }"

    def test_asks_for_its_data(self, build):
        net = build("MemoryData", self.PARAMS)
        assert net.steps[0].top_shapes == ((2, 3, 6, 8), (2,))
        with pytest.raises(LayerError, match=r"has no data yet; give it some: layer.reset\(data, labels\)"):
            net()

    def test_pictures_are_transformed(self, build):
        net = build("MemoryData", self.PARAMS + " transform_param { scale: 0.5 mean_value: 3 }")
        layer_of(net).add([picture(i) for i in range(4)], [7, 8, 9, 10])
        for first in (0, 2, 0):
            out = net()
            want = np.stack([(picture(i).transpose(2, 0, 1).astype(F) - 3) / 2 for i in (first, first + 1)])
            np.testing.assert_array_equal(out["data"].numpy(), want)
            assert out["label"].flatten().tolist() == [7 + first, 8 + first]

    def test_records_are_transformed(self, build):
        net = build("MemoryData", self.PARAMS)
        layer_of(net).add([parse_datum(raw_datum(1), "a"), parse_datum(encoded_datum(2), "b")], [1, 2])
        np.testing.assert_array_equal(net()["data"][1].numpy(), picture(2).transpose(2, 0, 1))

    def test_what_was_added_is_used_up_first(self, build):
        net = build("MemoryData", self.PARAMS)
        layer = layer_of(net)
        layer.add([picture(i) for i in range(4)], [0, 1, 2, 3])
        net()
        for wrong in (lambda: layer.add([picture(0)] * 2, [0, 0]), lambda: layer.set_batch_size(1)):
            with pytest.raises(LayerError, match="until the images added last are used up"):
                wrong()
        net()
        layer.set_batch_size(3)
        layer.add([picture(i) for i in range(3)], [4, 5, 6])
        assert net()["label"].shape == (3, 1, 1, 1)

    @pytest.mark.parametrize(("shape", "labels", "reason"), [
        ((3, 3, 6, 8), 3, "is given 3 images; a multiple of its batch_size 2"),
        ((2, 3, 6, 7), 2, "is given data of 2 x 3 x 6 x 7; n x 3 x 6 x 8 is expected"),
        ((2, 3, 6, 8), 4, "is given 2 images but 4 labels"),
        ((0, 3, 6, 8), 0, "is given 0 images"),
    ])
    def test_arrays_must_fit(self, build, shape: tuple, labels: int, reason: str):
        net = build("MemoryData", self.PARAMS)
        with pytest.raises(LayerError, match=reason):
            layer_of(net).reset(np.zeros(shape), np.zeros(labels))
        with pytest.raises(LayerError, match="is given an image of float32; uint8 is expected"):
            layer_of(net).add([picture(0).astype(F)] * 2, [0, 0])


class TestDummyData:
    def test_random_fillers_are_new_in_each_forward(self, build):
        net = build("DummyData", 'dummy_data_param { shape { dim: 50 } data_filler { type: "uniform" min: 2 max: 3 } '
                                 'data_filler { type: "constant" value: 4 } }')
        a, b = net(), net()
        assert not torch.equal(a["data"], b["data"])
        assert ((a["data"] >= 2) & (a["data"] <= 3)).all()
        assert a["label"].eq(4).all()

    def test_a_seed_repeats_them(self, build):
        param = 'shape { dim: 5 dim: 2 } data_filler { type: "gaussian" }'
        net = build("DummyData", f"dummy_data_param {{ {param} }}", tops=1)
        torch.manual_seed(1)
        first = net()["data"]
        torch.manual_seed(1)
        assert torch.equal(net()["data"], first)

    def test_a_constant_is_itself_in_each_forward(self, tmp_path: Path):
        """Differs: in Caffe a layer in place works on its own result in the second forward."""
        (tmp_path / "net.prototxt").write_text(
            'layer { name: "d" type: "DummyData" top: "a" dummy_data_param { shape { dim: 2 } } }'
            'layer { name: "p" type: "Power" bottom: "a" top: "a" power_param { shift: 3 } }')
        net = load_net(tmp_path / "net.prototxt")
        assert [net()["a"].tolist() for _ in range(2)] == [[3, 3], [3, 3]]

    def test_an_unknown_filler_is_named(self, build):
        net = build("DummyData", 'dummy_data_param { shape { dim: 5 } data_filler { type: "x" } }')
        with pytest.raises(LayerError, match=r"d \(DummyData\): unknown filler 'x'"):
            net()


class TestDataHeatmap:
    def net(self, build, tmp_path: Path, lines: str, more: str = "") -> Net:
        cv2.imwrite(str(tmp_path / "a.png"), picture(0, 60, 50))
        (tmp_path / "p.txt").write_text(lines)
        return build("DataHeatmap", f'heatmap_data_param {{ source: "{tmp_path}/p.txt" root_img_dir: "{tmp_path}/" '
                                    f"batchsize: 2 outsize: 24 label_height: 12 label_width: 10 {more} }}")

    def test_gives_rgb_from_0_to_1(self, build, tmp_path: Path):
        out = self.net(build, tmp_path, "a.png 20,30 10,20,34,44 0\n", 'bbox_or_centerscale: "bbox"')()
        want = picture(0, 60, 50)[20:44, 10:34, ::-1].transpose(2, 0, 1).astype(F) / 255
        np.testing.assert_array_equal(out["data"][0].numpy(), want)
        peak = out["label"][0, 0].argmax().item()
        assert (peak // 10, peak % 10) == (5, 5)  # (30 - 20, 20 - 10) * 12 / 24
        assert out["label"][0, 0, 5, 5] == 1

    def test_a_turned_person_keeps_its_joints(self, build, tmp_path: Path):
        torch.manual_seed(2)
        cv2.imwrite(str(tmp_path / "dot.png"), cv2.circle(np.zeros((60, 60, 3), np.uint8), (40, 22), 1, (255,) * 3, -1))
        net = self.net(build, tmp_path, "dot.png 40,22 30,30,0.24 0\n", "data_augment: true angle_max: 60")
        tops = set()
        for _ in range(5):
            out = net()
            dot = out["data"][0].sum(0)
            heat = out["label"][0, 0]
            top, peak = dot.argmax().item(), heat.argmax().item()
            assert abs(top // 24 / 2 - peak // 10) <= 1
            assert abs(top % 24 / 2 - peak % 10) <= 1
            tops.add(top)
        assert len(tops) > 1

    @pytest.mark.parametrize(("lines", "more", "reason"), [
        ("a.png 1,2 500,20,0.1 0\n", "", "p.txt:1: the crop 500, 20, 0.1 gives .* which are outside the image"),
        ("a.png 1,2 20,20,30 0\n", "", "asks for a crop of 6000 x 6000 pixels from an image of 50 x 60"),
        ("a.png 1,2 20,20,0.1 0\na.png 1,2,3,4 20,20,0.1 0\n", "", "p.txt:2: 2 joints, but the first person has 1"),
        ("a.png 1,2 20,20,0.1 1\n", "sample_per_cluster: true", "clusters 1; sample_per_cluster needs 0, 1, 2"),
        ("b.png 1,2 20,20,0.1 0\n", "", "b.png: No such file"),
        ("a.png 1,2 20,20,0.1 0\n", "segmentation: true", "no segmentation for any image"),
    ])
    def test_says_what_is_wrong(self, build, tmp_path: Path, lines: str, more: str, reason: str):
        def run():
            self.net(build, tmp_path, lines, more)()

        with pytest.raises(LayerError, match=reason):
            run()
