"""caffe.Net and the solvers as scripts use them: views, passes, files, callbacks, and bad use."""

import gc
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from rmpe_legacy import load_net
from rmpe_legacy import pycaffe as caffe
from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pycaffe.settings import current

NET = """
force_backward: true
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3
        weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" std: 0.5 } } }
layer { name: "sigmoid" type: "Sigmoid" bottom: "conv" top: "conv" }
layer { name: "flat" type: "Flatten" bottom: "conv" top: "flat" }
layer { name: "fc" type: "InnerProduct" bottom: "flat" top: "fc" inner_product_param { num_output: 5
        weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
TRAINED = """
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
        shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" } data_filler { type: "constant" } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5
        weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


@pytest.fixture(autouse=True)
def _seeded():
    before = dict(vars(current))
    caffe.set_random_seed(3)
    yield
    vars(current).update(before)


@pytest.fixture
def net(file):
    net = caffe.Net(file, caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    return net


class TestConstructors:
    def test_all_signatures(self, net, file, tmp_path):
        weights = str(tmp_path / "net.caffemodel")
        net.save(weights)
        for other in (caffe.Net(file, weights, caffe.TEST), caffe.Net(file, caffe.TEST, weights=weights),
                      caffe.Net(file, phase=caffe.TEST, weights=weights), caffe.Net(file, weights, phase=caffe.TEST),
                      caffe.Net(file, caffe.TEST, 0, None, weights), caffe.Net(network_file=file, phase=1, level=0,
                                                                               weights=weights)):
            assert np.array_equal(other.params["conv"][0].data, net.params["conv"][0].data)
            assert other.phase == caffe.TEST

    @pytest.mark.parametrize("args", [(), (2,), (True,), ("weights",), (0, 0, None, None, None), ("w", 0, 1)])
    def test_other_arguments_are_a_type_error(self, file, args):
        with pytest.raises(TypeError, match=r"caffe\.Net takes \(prototxt, phase"):
            caffe.Net(file, *args)

    def test_missing_files_are_runtime_errors_with_our_sentence(self, file):
        with pytest.raises(RuntimeError, match=r"none\.prototxt: No such file"):
            caffe.Net("none.prototxt", caffe.TEST)
        with pytest.raises(RuntimeError, match=r"none\.caffemodel: No such file") as caught:
            caffe.Net(file, "none.caffemodel", caffe.TEST)
        assert isinstance(caught.value, RmpeError)

    def test_torch_is_the_module_below(self, net):
        with torch.no_grad():
            want = net.torch(data=torch.from_numpy(net.blobs["data"].data.copy()))["prob"]
        assert np.array_equal(net.forward()["prob"], want.numpy())


class TestBlobs:
    def test_names_shapes_and_old_names_of_axes(self, net):
        assert list(net.blobs) == ["data", "conv", "flat", "fc", "prob"]
        assert (net.inputs, net.outputs) == (["data"], ["prob"])
        blob = net.blobs["data"]
        assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 6, 6, 216)
        assert (net.blobs["fc"].num, net.blobs["fc"].channels, net.blobs["fc"].height) == (2, 5, 1)
        assert list(net.params) == ["conv", "fc"]
        assert net.top_names["conv"] == ["conv"]
        assert net.bottom_names["sigmoid"] == ["conv"]
        assert [layer.type for layer in net.layers][:2] == ["Input", "Convolution"]
        assert net.layer_dict["fc"].blobs[1].shape == (5,)

    def test_parameters_are_views_of_the_module(self, net):
        net.params["fc"][0].data[...] = 0
        net.params["fc"][1].data[...] = np.arange(5)
        net.forward()
        assert np.array_equal(net.blobs["fc"].data, np.tile(np.arange(5, dtype=np.float32), (2, 1)))
        assert not net.torch.params["fc"][0].detach().any()

    def test_an_array_that_a_script_holds_gets_each_new_result(self, net):
        held = net.blobs["prob"].data
        part = net.blobs["fc"].data[1]
        net.forward()
        assert np.allclose(held.sum(1), 1)
        first = held.copy()
        net.blobs["data"].data[...] *= -1
        net.forward()
        assert not np.allclose(held, first)
        assert np.array_equal(held, net.blobs["prob"].data)
        assert np.array_equal(part, net.blobs["fc"].data[1])

    def test_results_that_nobody_holds_are_not_copied(self, net):
        net.forward()
        gc.collect()
        memory = net.blobs["conv"].data_memory
        before = memory.tensor.data_ptr()
        del before
        net.forward()
        assert memory.tensor is net.torch.blobs["conv"]  # the layer's own result

    def test_flatten_shares_its_bottoms_memory(self, net):
        net.forward()
        net.blobs["flat"].data[0, 0] = 42
        assert net.blobs["conv"].data[0, 0, 0, 0] == 42

    def test_reshape(self, net):
        net.blobs["data"].reshape(5, 3, 7, 6)
        with pytest.raises(RuntimeError, match=r"fc \(InnerProduct\)"):
            net.reshape()
        assert net.blobs["conv"].shape == (5, 4, 5, 4)
        net.blobs["data"].reshape(5, 3, 6, 6)
        assert net.forward()["prob"].shape == (5, 5)

    def test_reshape_keeps_what_fits(self, net):
        before = net.blobs["data"].data.copy()
        net.blobs["data"].reshape(1, 3, 6, 6)
        assert np.array_equal(net.blobs["data"].data, before[:1])
        net.blobs["data"].reshape(2, 3, 6, 6)
        assert np.array_equal(net.blobs["data"].data[0], before[0])

    def test_an_array_of_an_older_shape_keeps_its_values(self, net):
        held = net.forward()["prob"]
        before = held.copy()
        net.blobs["data"].reshape(1, 3, 6, 6)
        net.blobs["data"].data[...] = 0
        assert net.forward()["prob"].shape == (1, 5)
        assert np.array_equal(held, before)

    def test_bad_use(self, net):
        with pytest.raises(KeyError, match="no blob 'dat'; did you mean 'data'"):
            net.blobs["dat"]
        with pytest.raises(ValueError, match="could not broadcast"):
            net.blobs["data"].data[...] = np.zeros((2, 3, 5, 5))
        with pytest.raises(AttributeError, match=r"cannot be replaced; write into it: blob\.data"):
            net.blobs["data"].data = 0
        with pytest.raises(AttributeError, match=r"net\.blobs cannot be replaced"):
            net.blobs = {}
        with pytest.raises(RuntimeError, match="cannot become 2 x -1"):
            net.blobs["data"].reshape(2, -1)
        with pytest.raises(RuntimeError, match=r"fc\[0\]'.* a parameter keeps the shape 5 x 64"):
            net.params["fc"][0].reshape(5, 65)


class TestPasses:
    def test_from_one_layer_to_another(self, net):
        want = net.forward()["prob"].copy()
        net.blobs["conv"].data[...] = 0
        found = net.forward(end="sigmoid")
        assert list(found) == ["conv"]
        assert np.array_equal(net.forward(start="flat")["prob"], want)

    def test_inputs_by_name_and_further_blobs(self, net):
        found = net.forward(blobs=["fc"], data=np.ones((2, 3, 6, 6)))
        assert set(found) == {"prob", "fc"}
        assert (net.blobs["data"].data == 1).all()

    def test_backward_is_the_derivative(self, net):
        net.forward()
        net.blobs["prob"].diff[...] = np.arange(10).reshape(2, 5)
        found = net.backward(diffs=["conv"])
        data = torch.from_numpy(net.blobs["data"].data.copy()).requires_grad_()
        other = net.torch
        other.zero_grad()
        other.force_backward = True
        gradients = [net.params["conv"][0].diff.copy(), found["data"].copy()]
        other.zero_grad()
        other(data=data)["prob"].backward(torch.arange(10.0).view(2, 5))
        assert np.allclose(gradients[1], data.grad.numpy(), atol=1e-7)

    def test_parameters_diffs_add_up_until_cleared(self, net):
        net.forward()
        net.backward(prob=np.arange(10).reshape(2, 5))
        once = net.params["fc"][0].diff.copy()
        assert once.any()
        net.backward()
        assert np.allclose(net.params["fc"][0].diff, 2 * once)
        net.clear_param_diffs()
        assert not net.params["fc"][0].diff.any()

    def test_backward_from_a_layer_within(self, net):
        """As DeepDream does it: a layer's data is its own gradient."""
        net.forward(end="sigmoid")
        blob = net.blobs["conv"]
        blob.diff[...] = blob.data
        y = blob.data.copy()
        net.backward(start="sigmoid")
        weights = net.params["conv"][0].data
        want = torch.nn.functional.conv_transpose2d(torch.from_numpy(y * y * (1 - y)), torch.from_numpy(weights))
        assert np.allclose(net.blobs["data"].diff, want.numpy(), atol=1e-5)

    def test_nothing_flows_without_a_loss_or_force_backward(self, file, tmp_path):
        (tmp_path / "plain.prototxt").write_text(NET.replace("force_backward: true", ""))
        net = caffe.Net(tmp_path / "plain.prototxt", caffe.TEST)
        net.forward()
        net.backward(prob=np.ones((2, 5)))
        assert not net.blobs["data"].diff.any()
        assert not net.params["conv"][0].diff.any()

    def test_a_backward_without_a_forward_runs_the_layers_it_needs(self, net):
        net.blobs["fc"].diff[...] = 1
        net.backward(start="fc", end="fc")
        assert np.allclose(net.blobs["flat"].diff, net.params["fc"][0].data.sum(0))

    def test_batches(self, net):
        values = np.random.default_rng(1).normal(size=(5, 3, 6, 6)).astype(np.float32)
        found = net.forward_all(blobs=["fc"], data=values)
        assert found["prob"].shape == (5, 5)
        net.blobs["data"].reshape(5, 3, 6, 6)
        assert np.allclose(net.forward(data=values)["prob"], found["prob"], atol=1e-6)
        net.blobs["data"].reshape(2, 3, 6, 6)
        blobs, diffs = net.forward_backward_all(data=values, prob=np.ones((5, 5)))
        assert blobs["prob"].shape == (5, 5)
        assert diffs["data"].shape == values.shape

    def test_callbacks(self, net):
        seen = []
        net.before_forward(lambda i: seen.append(("before", i)))
        net.after_forward(lambda i: seen.append(("after", i)))
        net.before_backward(lambda i: seen.append(("back", i)))
        net.after_backward(lambda i: seen.append(("done", i)))
        net.forward(start="flat", end="fc")
        net.backward(start="fc", end="fc")
        assert seen == [("before", 3), ("after", 3), ("before", 4), ("after", 4), ("back", 4), ("done", 4)]

    @pytest.mark.parametrize(("call", "error", "sentence"), [
        (lambda net: net.forward(start="con"), ValueError, "no layer 'con'; did you mean 'conv'"),
        (lambda net: net.forward(end="nowhere"), ValueError, "no layer 'nowhere'; it has data, conv"),
        (lambda net: net.backward(start="nowhere"), ValueError, "no layer 'nowhere'"),
        (lambda net: net.forward(blobs=["nowhere"]), KeyError, "no blob 'nowhere'"),
        (lambda net: net.forward(image=np.ones((2, 3, 6, 6))), Exception, "inputs image are given; .* inputs are data"),
        (lambda net: net.forward(data=np.ones((1, 3, 6, 6))), Exception, "the batch sizes differ"),
        (lambda net: net.backward(loss=np.ones(2)), Exception, "outputs loss are given; .* outputs are prob"),
        (lambda net: net.set_input_arrays(np.ones(1), np.ones(1)), RuntimeError, "needs a first layer of type Memory"),
    ])
    def test_bad_use(self, net, call, error, sentence):
        with pytest.raises(error, match=sentence) as caught:
            call(net)
        assert isinstance(caught.value, RmpeError)


class TestFiles:
    def test_save_and_load(self, net, file, tmp_path):
        for save, load, name in ((net.save, "copy_from", "a.caffemodel"), (net.save_hdf5, "load_hdf5", "b.h5")):
            save(str(tmp_path / name))
            other = caffe.Net(file, caffe.TEST)
            getattr(other, load)(str(tmp_path / name))
            assert np.array_equal(other.params["fc"][0].data, net.params["fc"][0].data)

    @pytest.mark.parametrize(("save", "load"), [("save", "copy_from"), ("save_hdf5", "load_hdf5")])
    def test_blobs_that_a_script_adds_are_stored(self, net, file, tmp_path, save, load):
        before = net.forward()["prob"].copy()
        net.params["fc"].add_blob(2, 3)
        net.params["fc"][2].data[...] = 7
        getattr(net, save)(tmp_path / "net")
        assert np.array_equal(net.forward()["prob"], before)  # the layer does not read it
        other = caffe.Net(file, caffe.TEST)
        with pytest.raises(RuntimeError, match="has 2 parameters, but 3 in the weights"):
            getattr(other, load)(tmp_path / "net")
        other.params["fc"].add_blob(2, 3)
        getattr(other, load)(tmp_path / "net")
        assert np.array_equal(other.params["fc"][2].data, np.full((2, 3), 7))
        assert np.array_equal(other.params["fc"][1].data, net.params["fc"][1].data)
        other.params["fc"][2].reshape(4)
        with pytest.raises(RuntimeError, match="do not hold the 4 of a blob that was added"):
            getattr(other, load)(tmp_path / "net")

    def test_share_with(self, net, file):
        other = caffe.Net(file, caffe.TEST)
        other.share_with(net)
        net.params["conv"][0].data[...] = 7
        assert (other.params["conv"][0].data == 7).all()


class TestMemoryData:
    def test_set_input_arrays(self, tmp_path):
        (tmp_path / "net.prototxt").write_text(
            'layer { name: "d" type: "MemoryData" top: "data" top: "label" '
            "memory_data_param { batch_size: 2 channels: 1 height: 2 width: 2 } }")
        net = caffe.Net(tmp_path / "net.prototxt", caffe.TEST)
        data = np.arange(16, dtype=np.float32).reshape(4, 1, 2, 2)
        net.set_input_arrays(data, np.arange(4, dtype=np.float32))
        net.forward()
        assert np.array_equal(net.forward()["data"], data[2:])
        for wrong in (data.astype(float), data[:3], data.transpose(1, 0, 2, 3)):
            with pytest.raises(RuntimeError):
                net.set_input_arrays(wrong, np.arange(len(wrong), dtype=np.float32))


class TestPythonLayers:
    def test_layers_are_the_users_objects_and_keep_their_exceptions(self, tmp_path, monkeypatch):
        (tmp_path / "twice_layer.py").write_text(textwrap.dedent("""
            import caffe

            class Twice(caffe.Layer):
                def setup(self, bottom, top):
                    self.factor = caffe.TEST + 1
                    if self.param_str == "wrong":
                        raise ValueError("a factor is expected")

                def reshape(self, bottom, top):
                    top[0].reshape(*bottom[0].data.shape)

                def forward(self, bottom, top):
                    top[0].data[...] = self.factor * bottom[0].data

                def backward(self, top, propagate_down, bottom):
                    bottom[0].diff[...] = self.factor * top[0].diff
        """))
        text = ('force_backward: true layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 } } } '
                'layer { name: "y" type: "Python" bottom: "x" top: "y" '
                'python_param { module: "twice_layer" layer: "Twice" param_str: "%s" } }')
        (tmp_path / "net.prototxt").write_text(text % "right")
        net = caffe.Net(tmp_path / "net.prototxt", caffe.TEST)
        assert net.layers[1].factor == 2
        net.layers[1].factor = 5
        assert np.array_equal(net.forward(x=np.array([1, 2, 3]))["y"], [5, 10, 15])
        assert np.array_equal(net.backward(y=np.array([1, 1, 2]))["x"], [5, 5, 10])
        (tmp_path / "wrong.prototxt").write_text(text % "wrong")
        with pytest.raises(ValueError, match=r"y \(Python\): its setup fails: ValueError: a factor is expected"):
            caffe.Net(tmp_path / "wrong.prototxt", caffe.TEST)
        assert sys.modules.pop("twice_layer")

    def test_what_fast_rcnns_caffe_told_a_layer(self, tmp_path):
        (tmp_path / "told_layer.py").write_text(textwrap.dedent("""
            import caffe

            class Told(caffe.Layer):
                def reshape(self, bottom, top):
                    top[0].reshape({"TRAIN": 1, "TEST": 2}[str(self.phase)], int(self.param_str_), self.phase)
        """))
        (tmp_path / "net.prototxt").write_text('layer { name: "y" type: "Python" top: "y" python_param { '
                                               'module: "told_layer" layer: "Told" param_str: "7" } }')
        assert caffe.Net(tmp_path / "net.prototxt", caffe.TEST).blobs["y"].shape == (2, 7, caffe.TEST)
        assert caffe.Net(tmp_path / "net.prototxt", caffe.TRAIN).blobs["y"].shape == (1, 7, caffe.TRAIN)
        assert sys.modules.pop("told_layer")

    def test_a_well_known_layer_without_its_module(self, tmp_path):
        shapes = {"scores": "1 18 4 4", "moves": "1 36 4 4", "info": "1 3"}
        inputs = "".join(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
                         f'{" ".join(f"dim: {n}" for n in shape.split())} }} }} }} ' for name, shape in shapes.items())
        (tmp_path / "net.prototxt").write_text(
            inputs + 'layer { name: "rois" type: "Python" bottom: "scores" bottom: "moves" bottom: "info" top: "rois" '
            "python_param { module: 'rpn.proposal_layer' layer: 'ProposalLayer' param_str: \"'feat_stride': 16\" } }")
        net = caffe.Net(tmp_path / "net.prototxt", caffe.TEST)
        assert net.layer_dict["rois"].type == "Python"
        assert len(net.layer_dict["rois"].blobs) == 0
        net.blobs["info"].data[...] = [64, 64, 1]
        assert net.forward()["rois"].shape[1] == 5


class TestSolvers:
    @pytest.fixture
    def file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "train.prototxt").write_text(TRAINED)
        (tmp_path / "solver.prototxt").write_text(
            'net: "train.prototxt" base_lr: 0.1 momentum: 0.9 lr_policy: "step" stepsize: 2 gamma: 0.1 max_iter: 4 '
            'test_iter: 1 test_interval: 2 snapshot_prefix: "model" type: "Adam"')
        return str(tmp_path / "solver.prototxt")

    def test_steps_are_those_of_our_solver(self, file):
        from rmpe_legacy.caffe.solver.solver import Solver

        caffe.set_random_seed(5)
        ours = Solver(file)
        ours.step(3)
        caffe.set_random_seed(5)
        theirs = caffe.get_solver(file)
        assert type(theirs) is caffe.AdamSolver
        theirs.step(3)
        assert theirs.iter == 3
        assert np.array_equal(theirs.net.params["fc"][0].data, ours.net.params["fc"][0].detach().numpy())
        assert theirs.net.blobs["loss"].data > 0

    def test_labels_that_a_script_sets_stay(self, file):
        solver = caffe.SGDSolver(file)
        solver.net.blobs["label"].data[...] = [1, 2, 3, 4]
        solver.solve()
        assert solver.iter == 4
        assert np.array_equal(solver.net.blobs["label"].data, [1, 2, 3, 4])
        assert not solver.test_nets[0].blobs["label"].data.any()

    def test_callbacks_snapshot_restore_and_rate(self, file, tmp_path):
        solver = caffe.SGDSolver(file)
        seen = []
        solver.add_callback(lambda: seen.append("start"), lambda: seen.append("ready"))
        solver.step(2)
        assert seen == ["start", "ready"] * 2
        assert solver.lr == pytest.approx(0.01)
        solver.param.base_lr = 1.0
        assert solver.lr == pytest.approx(0.1)
        assert solver.param.max_iter == 4
        solver.snapshot()
        other = caffe.SGDSolver(file)
        other.restore("model_iter_2.solverstate")
        assert other.iter == 2
        assert np.array_equal(other.net.params["fc"][0].data, solver.net.params["fc"][0].data)

    @pytest.mark.parametrize("end", ["", ".h5"], ids=["binary", "HDF5"])
    def test_snapshots_hold_blobs_that_a_script_adds(self, file, tmp_path, end):
        if end:
            (tmp_path / "solver.prototxt").write_text((tmp_path / "solver.prototxt").read_text()
                                                      + " snapshot_format: HDF5")
        solver = caffe.SGDSolver(file)
        solver.net.params["fc"].add_blob(2, 3)
        solver.net.params["fc"][2].data[...] = 7
        solver.step(1)
        solver.net.params["fc"][1].data[...] = 5
        solver.snapshot()
        with pytest.raises(RuntimeError, match="has 2 parameters, but 3 in the weights"):
            caffe.SGDSolver(file).restore(f"model_iter_1.solverstate{end}")
        other = caffe.SGDSolver(file)
        other.net.params["fc"].add_blob(2, 3)
        other.restore(f"model_iter_1.solverstate{end}")
        assert np.array_equal(other.net.params["fc"][2].data, np.full((2, 3), 7))
        assert (other.net.params["fc"][1].data == 5).all()
        assert np.array_equal(other.net.params["fc"][0].data, solver.net.params["fc"][0].data)

    def test_networks_have_the_scripts_own_layers(self, file, tmp_path, monkeypatch):
        """A script that names a module trusts it; a module of its own wins over a built-in one of its name."""
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "voc_layers", raising=False)
        (tmp_path / "voc_layers.py").write_text("""import caffe
class VOCSegDataLayer(caffe.Layer):
    def setup(self, bottom, top):
        self.count = 0
    def reshape(self, bottom, top):
        top[0].reshape(2, 3)
        top[1].reshape(2)
    def forward(self, bottom, top):
        self.count += 1
        top[0].data[...] = self.count
        top[1].data[...] = 0
    def backward(self, top, propagate_down, bottom):
        pass
""")
        (tmp_path / "train.prototxt").write_text("""
layer { name: "data" type: "Python" top: "data" top: "label"
  python_param { module: "voc_layers" layer: "VOCSegDataLayer" } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }""")
        solver = caffe.SGDSolver(file)
        solver.step(3)
        assert (solver.net.blobs["data"].data == 3).all()

    def test_a_solvers_networks_have_the_de_transform_that_was_chosen(self, file, tmp_path):
        seen = []
        for chosen in ("published-identity", "paper"):
            caffe.configure(de_transform=chosen)
            seen.append(caffe.SGDSolver(file).net.torch.steps[0].layer.spec.de_transform)
        assert seen == ["published-identity", "paper"]

    def test_apply_update_takes_the_diffs_as_they_are(self, file):
        solver = caffe.SGDSolver(file)
        blob = solver.net.params["fc"][1]
        blob.data[...] = 0
        blob.diff[...] = 1
        solver.apply_update()
        assert np.allclose(blob.data, -0.1)
        assert solver.iter == 0

    def test_several_gpus_are_torchruns(self, file):
        assert not caffe.has_nccl()
        assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
        caffe.set_solver_count(1)
        for call in (lambda: caffe.set_solver_count(2), lambda: caffe.set_solver_rank(1), lambda: caffe.NCCL(1, 2),
                     lambda: caffe.set_multiprocess(True), caffe.NCCL.new_uid,
                     lambda: caffe.SGDSolver(file).add_callback(object())):
            with pytest.raises(RuntimeError, match="torchrun"):
                call()

    def test_bad_solver(self, tmp_path):
        (tmp_path / "bad.prototxt").write_text("base_lr: 1")
        with pytest.raises(RuntimeError, match="names no network"):
            caffe.SGDSolver(tmp_path / "bad.prototxt")


class TestClassifierAndDetector:
    @pytest.fixture
    def files(self, net, file, tmp_path):
        net.save(str(tmp_path / "net.caffemodel"))
        return file, str(tmp_path / "net.caffemodel")

    def test_classifier_takes_the_mean_over_ten_crops(self, files):
        classifier = caffe.Classifier(*files, image_dims=(8, 8), mean=np.array([0.1, 0.2, 0.3]), raw_scale=2,
                                      channel_swap=(2, 1, 0))
        picture = np.random.default_rng(2).random((10, 12, 3)).astype(np.float32)
        crops = caffe.io.oversample([caffe.io.resize_image(picture, (8, 8))], (6, 6))
        values = np.stack([2 * crop.transpose(2, 0, 1)[::-1] - np.array([0.1, 0.2, 0.3])[:, None, None]
                           for crop in crops])
        net = load_net(*files)
        with torch.no_grad():
            want = net(data=torch.from_numpy(values))["prob"].numpy()
        assert np.allclose(classifier.predict([picture])[0], want.mean(0), atol=1e-6)
        assert np.allclose(classifier.predict([picture], oversample=False)[0], want[4], atol=1e-6)

    def test_detector_crops_windows_with_context(self, files, tmp_path):
        import cv2
        picture = np.random.default_rng(2).integers(0, 255, (20, 30, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "picture.png"), picture)
        detector = caffe.Detector(*files)
        windows = np.array([[2, 3, 10, 15], [0, 0, 20, 30]])
        found = detector.detect_windows([(str(tmp_path / "picture.png"), windows)])
        assert [d["window"].tolist() for d in found] == windows.tolist()
        image = caffe.io.load_image(str(tmp_path / "picture.png"))
        assert np.array_equal(detector.crop(image, windows[0]), image[2:10, 3:15])
        detector.configure_crop(1)
        crop = detector.crop(image, np.array([-0, 0, 8, 8]))
        assert crop.shape == (6, 6, 3)
        assert not crop[0].any()  # beyond the image's border: the mean, here 0
        with pytest.raises(RuntimeError, match="detect_windows"):
            detector.detect_selective_search(["a.jpg"])


class TestModule:
    def test_settings(self):
        assert "Convolution" in caffe.layer_type_list()
        assert caffe.__version__
        caffe.log("a line")
        caffe.init_log(2)
        if not torch.cuda.is_available():
            with pytest.warns(UserWarning, match="finds no GPU"):
                caffe.set_mode_gpu()
        caffe.set_device(0)
        caffe.set_mode_cpu()
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            caffe.nonsense  # noqa: B018
        with pytest.raises(RmpeError, match="de_transform"):
            caffe.configure(de_transform="none")

    def test_parts_are_the_same_modules_under_either_name(self):
        code = """
            import rmpe_legacy.pycaffe
            rmpe_legacy.pycaffe.install()
            import caffe, caffe.draw, caffe.proto.caffe_pb2
            from caffe import layers as L
            from caffe.model_libs import *
            assert caffe.net_spec is rmpe_legacy.pycaffe.net_spec and caffe.draw is rmpe_legacy.pycaffe.draw
            assert caffe_pb2 is caffe.proto.caffe_pb2 and L is caffe.layers
        """
        assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False).returncode == 0

    def test_the_compiled_module_and_its_types(self, net):
        assert type(net.params["fc"]) is caffe._caffe.BlobVec
        assert isinstance(net, caffe._caffe.Net)
        assert caffe.pycaffe.SGDSolver is caffe._caffe.SGDSolver is caffe.SGDSolver

    def test_messages_are_googles(self):
        assert len(caffe.proto.caffe_pb2.BlobProtoVector(blobs=[caffe.io.array_to_blobproto(np.ones(3))]).blobs) == 1
        with pytest.raises(DecodeError):
            caffe.proto.caffe_pb2.NetParameter().ParseFromString(b"\xff\xff")
        with pytest.raises(text_format.ParseError):
            text_format.Merge("layer {", caffe.proto.caffe_pb2.NetParameter())

    def test_text_format_comes_with_the_messages(self):
        code = ("from rmpe_legacy import pycaffe as caffe\nimport google.protobuf as pb\n"
                "net = caffe.proto.caffe_pb2.NetParameter()\npb.text_format.Merge('name: \"a\"', net)")
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_building_a_network_leaves_no_caffe_behind(self, file):
        assert "caffe" not in sys.modules
        caffe.Net(file, caffe.TEST)
        assert "caffe" not in sys.modules

    def test_timer(self):
        timer = caffe.Timer()
        timer.start()
        timer.stop()
        assert 0 <= timer.ms < 1000
