"""Training pose networks: what they are fed, where the STN begins, which gradients reach it, resuming, commands."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from demo_tools import tool
from paths import ROOT
from shared import shared

from rmpe_legacy import load_net
from rmpe_legacy.caffe.proto.caffemodel import read_weights
from rmpe_legacy.cli import main
from rmpe_legacy.errors import NetError, RmpeError
from rmpe_legacy.training.boxes import JitteredBoxes, TrueBoxes
from rmpe_legacy.training.feed import Feed, SampleBatches, format_of
from rmpe_legacy.training.pgpg import read_pgpg
from rmpe_legacy.training.samples import SampleFormat
from rmpe_legacy.training.sources import DrawnPeople
from rmpe_legacy.training.train_pose import IDENTITY, PoseTraining, start_as_identity, weights_file

PROTOTXT = ROOT / "prototxt"
PARTS = ("", "_sstn", "_sstn_parallel")


def solver(folder: Path, parts: str = "", iterations: int = 2, **more) -> Path:
    fields = {"net": json.dumps(str(PROTOTXT / f"small{parts}" / "train.prototxt")), "type": '"RMSProp"',
              "rms_decay": 0.99, "delta": 1e-8, "base_lr": 2.5e-4, "lr_policy": '"fixed"', "max_iter": iterations,
              "snapshot_prefix": json.dumps(str(folder / f"net{parts}")), "random_seed": 1} | more
    path = folder / f"solver{parts}.prototxt"
    path.write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return path


def training(path: Path, **more) -> PoseTraining:
    return PoseTraining(path, DrawnPeople(1), JitteredBoxes(growth="demo"), "demo", batch=2, **more)


@pytest.fixture(scope="module")
def sppe(tmp_path_factory) -> Path:
    """Weights of a small SPPE, hardly trained."""
    run = training(solver(tmp_path_factory.mktemp("sppe"), iterations=1))
    assert run.run()
    return weights_file(run.solver)


@pytest.fixture(scope="module")
def net():
    """The 2-stack network with all parts, after a forward on noise."""
    net = load_net(PROTOTXT / "sppe_2hg_sstn_parallel" / "train.prototxt", phase="TRAIN", de_transform="paper",
                   keep_blobs=True)
    torch.manual_seed(2)
    start_as_identity(net)
    with torch.no_grad():
        net.params["theta"][0].normal_(0, 1e-3)  # no gradient passes weights of 0, as in the first step of a training
    net(data=torch.rand(1, 3, 256, 256), label=torch.rand(1, 16, 64, 64), label_center=torch.rand(1, 16, 64, 64))
    return net


class TestPublishedNetworks:
    """prototxt/sppe_*: sizes, and where the gradients go."""

    def test_losses_are_means_as_of_mse_criterion(self, net):
        want = 0.0
        for out, label in (("back1", "label"), ("back2", "label"), ("para_out1", "label_center"),
                           ("para_out2", "label_center")):
            want += float(((net.blobs[out] - net.blobs[label]) ** 2).mean().detach())
        assert float(net.loss().detach()) == pytest.approx(want, rel=1e-5)

    def test_the_parallel_sppe_does_not_learn_and_the_stn_does(self, net):
        net.zero_grad()
        net.loss().backward()
        frozen = [p for name, ps in net.params.items() if name.startswith("para_") for p in ps]
        assert frozen
        assert not any(p.requires_grad for p in frozen)
        for name in ("theta", "loc_conv1", "cnv1", "out1", "out2"):
            assert net.params[name][0].grad.abs().sum() > 0, name

    def test_the_parallel_sppe_has_the_other_ones_layers(self, net):
        main_layers = {name: [p.shape for p in ps] for name, ps in net.params.items()
                       if not name.startswith(("para_", "loc_", "theta"))}
        parallel = {name.removeprefix("para_"): [p.shape for p in ps] for name, ps in net.params.items()
                    if name.startswith("para_")}
        assert parallel == main_layers

    @pytest.mark.parametrize(("stacks", "parallel"), [(2, 2), (4, 4), (8, 4)])
    def test_stacks_and_supervision(self, stacks: int, parallel: int):
        text = (PROTOTXT / f"sppe_{stacks}hg_sstn_parallel" / "train.prototxt").read_text()
        assert text.count('type: "EuclideanLoss"') == stacks + parallel
        assert text.count('type: "SpatialTransformer"') == 1 + stacks

    def test_the_number_of_parameters_is_the_published_one(self):
        """49,475,014 of the 8-stack model with 4-stack parallel SPPE (facts of the authors' Torch7 graph)."""
        net = load_net(PROTOTXT / "sppe_8hg_sstn_parallel" / "train.prototxt", phase="TRAIN", de_transform="paper")
        fixed = ("BatchNorm", "Deconvolution")
        kinds = {step.layer.spec.name: step.layer.spec.type for step in net.steps}
        assert sum(p.numel() for name, ps in net.params.items() if kinds[name] not in fixed for p in ps) == 49_475_014

    def test_solvers_have_the_published_settings(self):
        from rmpe_legacy.caffe.solver.parameters import read_solver

        param = read_solver(PROTOTXT / "sppe_8hg_sstn_parallel" / "solver.prototxt")
        assert (param.type, param.base_lr, param.rms_decay) == ("RMSProp", pytest.approx(2.5e-4), pytest.approx(0.99))
        assert param.delta == pytest.approx(1e-8)
        assert param.max_iter == 20 * 8000

    def test_caffes_rmsprop_is_torch7s(self):
        """optim.rmsprop: m = alpha m + (1 - alpha) g g; x -= lr g / (sqrt(m) + epsilon)."""
        from rmpe_legacy.caffe.solver.optimizers import OPTIMIZERS

        rng = np.random.default_rng(0)
        x, gradients = rng.normal(size=7), rng.normal(size=(5, 7))
        value = torch.nn.Parameter(torch.tensor(x, dtype=torch.float64))
        optimizer = OPTIMIZERS["RMSProp"]([value], 2.5e-4, rms_decay=0.99, delta=1e-8)
        m = np.zeros(7)
        for g in gradients:
            value.grad = torch.tensor(g)
            optimizer.step()
            m = 0.99 * m + 0.01 * g * g
            x = x - 2.5e-4 * g / (np.sqrt(m) + 1e-8)
            optimizer.iteration += 1
        np.testing.assert_allclose(value.detach().numpy(), x, rtol=1e-6)


class TestStart:
    @pytest.mark.parametrize("parts", PARTS[1:])
    def test_the_stn_begins_as_the_identity(self, tmp_path: Path, parts: str):
        run = training(solver(tmp_path, parts))
        run.net.keep_blobs = True
        with torch.no_grad():
            run.net()
        want = torch.tensor(IDENTITY).expand(2, 6)
        torch.testing.assert_close(run.net.blobs["theta"].view(2, 6), want, rtol=0, atol=0)

    def test_the_identity_leaves_the_crop_as_it_is(self, tmp_path: Path):
        run = training(solver(tmp_path, "_sstn"))
        run.net.keep_blobs = True
        with torch.no_grad():
            run.net()
        torch.testing.assert_close(run.net.blobs["img"], run.net.blobs["data"], rtol=0, atol=1e-4)

    def test_weights_of_an_sppe_go_to_both_branches(self, tmp_path: Path, sppe: Path):
        run = training(solver(tmp_path, "_sstn_parallel"))
        run.start_from(sppe, sppe)
        stored = {layer.name: layer.blobs for layer in read_weights(sppe) if layer.blobs}
        for name in ("conv1", "hg1_up1_conv", "out2"):
            for prefix in ("", "para_"):
                got = run.net.params[prefix + name][0].detach().numpy().ravel()
                np.testing.assert_array_equal(got, stored[name][0].data)
        assert run.net.params["theta"][1].tolist() == list(IDENTITY)

    def test_a_parallel_sppe_without_weights(self, tmp_path: Path, sppe: Path):
        run = training(solver(tmp_path, "_sstn_parallel"))
        with pytest.raises(NetError, match=r"the parallel SPPE has no weights for .* layers, such as para_conv1"):
            run.start_from(sppe)

    def test_weights_of_another_network(self, tmp_path: Path):
        from rmpe_legacy.pose.demo_models import demo_model

        run = training(solver(tmp_path))
        other = tmp_path / "other.caffemodel"
        detector = [layer for layer in read_weights(demo_model("detector")[1]) if "mbox" in layer.name]
        from rmpe_legacy.caffe.proto.caffemodel_writer import write_caffemodel

        write_caffemodel(other, detector, name="other")
        with pytest.raises(NetError, match=r"other\.caffemodel: has no layer of the network small_train"):
            run.start_from(other)


class TestRun:
    def test_the_stn_moves_by_the_heat_maps_alone(self, tmp_path: Path, sppe: Path):
        run = training(solver(tmp_path, "_sstn_parallel"))
        run.start_from(sppe, sppe)
        before = {name: ps[0].clone() for name, ps in run.net.params.items()}
        assert run.run()
        assert "theta_label" not in run.net.inputs
        moved = {name for name, ps in run.net.params.items() if not torch.equal(ps[0], before[name])}
        assert {"theta", "loc_conv6", "conv1", "out2"} <= moved
        learned = {name for name in moved if name.startswith("para_") and not name.endswith("_bn")}
        assert not learned, "the parallel SPPE's weights do not change"

    def test_an_interrupted_run_ends_with_the_same_weights(self, tmp_path: Path):
        (tmp_path / "whole").mkdir()
        whole = training(solver(tmp_path / "whole", "_sstn", 4))
        assert whole.run()
        asked = iter(["none", "stop"])
        first = training(solver(tmp_path, "_sstn", 4, snapshot_after_train="false"), action=lambda: next(asked))
        assert not first.run()
        state = tmp_path / "net_sstn_iter_2.solverstate"
        assert state.exists()
        second = training(solver(tmp_path, "_sstn", 4))
        assert second.run(state)
        want = {layer.name: layer.blobs for layer in read_weights(weights_file(whole.solver))}
        for layer in read_weights(weights_file(second.solver)):
            for got, expected in zip(layer.blobs, want[layer.name], strict=True):
                np.testing.assert_array_equal(got.data, expected.data, err_msg=layer.name)

    def test_training_lowers_the_loss(self, tmp_path: Path):
        run = training(solver(tmp_path, iterations=30, base_lr=1e-3))
        losses = []
        run.net.register_forward_hook(lambda net, args, out: losses.append(float(net.loss().detach())))
        assert run.run()
        assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])

    def test_iter_size_takes_several_batches_for_one_update(self, tmp_path: Path):
        run = training(solver(tmp_path, iterations=3, iter_size=2))
        assert run.run()
        assert run._feed.index == 6

    def test_test_nets_are_refused(self, tmp_path: Path):
        path = solver(tmp_path, test_iter=1, test_interval=5)
        with pytest.raises(NetError, match="has test nets, which are not supported here"):
            training(path)

    def test_batches_below_one(self, tmp_path: Path):
        with pytest.raises(RmpeError, match="batch 0 is less than 1"):
            PoseTraining(solver(tmp_path), DrawnPeople(1), TrueBoxes(), "demo", batch=0)


class TestFeed:
    def test_a_batch_depends_on_its_number_alone(self):
        form = SampleFormat(32, 8, 8, "demo")
        one, other = (SampleBatches(DrawnPeople(1), JitteredBoxes(growth="demo"), form, 3, seed=5) for _ in range(2))
        one(0)
        for name, value in one(4).items():
            assert torch.equal(value, other(4)[name])
        assert not torch.equal(one(4)["data"], one(5)["data"])

    def test_goes_on_where_it_is_told(self):
        net = load_net(PROTOTXT / "small" / "train.prototxt", phase="TRAIN")
        net.keep_blobs = True
        asked = []

        def batches(index: int):
            asked.append(index)
            return {"data": torch.full((1, 3, 96, 96), float(index)), "label": torch.zeros(1, 16, 24, 24)}

        feed, seen = Feed(net, batches), []
        with torch.no_grad():
            for index in (None, None, 7, None):
                feed.index = feed.index if index is None else index
                net()
                seen.append(float(net.blobs["data"].flatten()[0]))
            feed.close()
            net(data=torch.full((1, 3, 96, 96), 9.0), label=torch.zeros(1, 16, 24, 24))
        assert seen == [0, 1, 7, 8]
        assert float(net.blobs["data"].flatten()[0]) == 9

    def test_an_error_in_the_thread_reaches_the_training(self):
        net = load_net(PROTOTXT / "small" / "train.prototxt", phase="TRAIN")

        def batches(index: int):
            if index:
                raise RmpeError("image b.jpg is damaged")
            return {"data": torch.zeros(1, 3, 96, 96), "label": torch.zeros(1, 16, 24, 24)}

        feed = Feed(net, batches)
        with torch.no_grad():
            net()
            with pytest.raises(RmpeError, match=r"b\.jpg is damaged"):
                net()
        feed.close()

    @pytest.mark.parametrize(("name", "says"), [
        ("demo/sppe_train.prototxt", "inputs data, label, theta_label; a network to train needs"),
        ("demo/ssd_train.prototxt", "input 'label' is 1 x 1 x 1 x 8"),
        ("small/deploy.prototxt", "has the inputs data; a network to train"),
    ])
    def test_other_networks_are_refused(self, name, says):
        net = load_net(PROTOTXT / name, phase="TRAIN", de_transform="paper")
        with pytest.raises(NetError, match=says):
            format_of(net, 16, "demo")

    def test_joints_of_another_set(self):
        net = load_net(PROTOTXT / "small" / "train.prototxt", phase="TRAIN")
        with pytest.raises(NetError, match="input 'label' is 16 x 16 x 24 x 24; expected 16 x 17 x size x size"):
            format_of(net, 17, "demo")


class TestCommand:
    def test_trains_on_drawn_people_and_the_result_runs(self, tmp_path: Path, capsys):
        path = solver(tmp_path)
        assert main(["train-pose", "--solver", str(path), "--drawn", "3", "--boxes", "true", "--published", "demo",
                     "--batch", "2", "--threads", "1"]) == 0
        out, err = capsys.readouterr()
        assert "trained 2 iterations" in out
        assert "Optimization Done." in err
        net = load_net(PROTOTXT / "small" / "deploy.prototxt", tmp_path / "net_iter_2.caffemodel")
        assert not net.left_out.untrained
        with torch.no_grad():
            assert net(data=torch.rand(1, 3, 96, 96))["prediction_heatmap"].numel() == 48

    def test_trains_on_a_photograph_with_a_list_of_people(self, tmp_path: Path):
        x, y = np.random.default_rng(0).integers((180, 90), (600, 420), (16, 2)).T
        annotations = tmp_path / "list.txt"
        annotations.write_text(f"skiing.jpg\t128 48 640 456\t{' '.join(map(str, x))}\t{' '.join(map(str, y))}\n")
        assert main(["train-pose", "--solver", str(solver(tmp_path, "_sstn")), "--annotations", str(annotations),
                     "--images", str(shared("images")), "--boxes", "jitter", "--batch", "2", "--threads", "1"]) == 0
        assert (tmp_path / "net_sstn_iter_2.caffemodel").exists()

    def test_trains_on_an_annot_h5_with_the_offsets_in_it(self, tmp_path: Path):
        import h5py

        cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
        with h5py.File(tmp_path / "annot.h5", "w") as file:
            file["imgname"] = np.array([list(b"a.png\0")] * 2, np.float64)
            file["part"] = np.random.default_rng(1).uniform(12, 45, (2, 16, 2))
            file["bndbox"] = np.array([[[10.0, 10, 50, 50]], [[20, 5, 60, 50]]])
            file["mu"], file["std"] = np.zeros((2, 4)), np.full((2, 4), 0.05)
        assert main(["train-pose", "--solver", str(solver(tmp_path, "_sstn", 1)), "--annotations",
                     str(tmp_path / "annot.h5"), "--images", str(tmp_path), "--batch", "1", "--threads", "1"]) == 0

    def test_trains_on_cocos_joints(self, tmp_path: Path):
        tool("make_prototxt").write_for_coco(tmp_path)
        cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8))
        keypoints = np.column_stack([np.random.default_rng(1).integers(12, 45, (17, 2)), np.full(17, 2)])
        (tmp_path / "p.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}], "annotations": [
            {"id": 1, "image_id": 1, "bbox": [10, 10, 40, 40], "keypoints": keypoints.ravel().tolist()}]}))
        net = json.dumps(str(tmp_path / "sppe_2hg_sstn" / "train.prototxt"))
        assert main(["train-pose", "--solver", str(solver(tmp_path, net=net, iterations=1)), "--annotations",
                     str(tmp_path / "p.json"), "--images", str(tmp_path), "--boxes", "true", "--batch", "1",
                     "--threads", "1"]) == 0
        deploy = load_net(tmp_path / "sppe_2hg_sstn" / "deploy.prototxt", tmp_path / "net_iter_1.caffemodel",
                          de_transform="paper")
        assert not deploy.left_out.untrained
        assert deploy.steps[-1].top_shapes[0][-1] == 3 * 17

    @pytest.mark.parametrize(("arguments", "says"), [
        (["--drawn", "1"], "how a detector's boxes differ from the true ones is not known"),
        (["--drawn", "1", "--boxes", "mixture"], "--boxes mixture needs a PGPG model"),
        (["--drawn", "1", "--images", "x"], "belong to --annotations"),
        (["--annotations", "x.txt"], "--annotations needs --images"),
        (["--drawn", "1", "--boxes", "true", "--threads", "0"], "threads 0 is less than 1"),
    ])
    def test_says_what_is_missing(self, tmp_path: Path, capsys, arguments, says):
        assert main(["train-pose", "--solver", str(solver(tmp_path)), *arguments]) == 1
        assert says in capsys.readouterr().err

    def test_ctrl_c_saves_a_snapshot_from_which_training_goes_on(self, tmp_path: Path):
        import signal
        import time

        path = solver(tmp_path, iterations=100_000)
        command = [sys.executable, "-m", "rmpe_legacy", "train-pose", "--solver", str(path), "--drawn", "1", "--boxes",
                   "true", "--published", "demo", "--batch", "1", "--threads", "1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "Solving" in line:
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 130
        state = Path(out.partition("; resume with --snapshot ")[2].rstrip("\n"))
        assert state.exists()
        done = int(state.stem.rpartition("_")[2])
        assert main(["train-pose", "--solver", str(solver(tmp_path, iterations=done + 1)), "--drawn", "1", "--boxes",
                     "true", "--published", "demo", "--batch", "1", "--threads", "1", "--snapshot", str(state)]) == 0
        assert (tmp_path / f"net_iter_{done + 1}.caffemodel").exists()


class TestPgpgCommand:
    def test_fits_to_the_detectors_boxes_of_drawn_people_samples_and_draws(self, tmp_path: Path, capsys):
        model, figure = tmp_path / "m.json", tmp_path / "m.png"
        assert main(["pgpg", "fit", "--drawn", "5", "--pictures", "30", "--atomic-poses", "2", "--output",
                     str(model)]) == 0
        assert "2 atomic poses written to" in capsys.readouterr().out
        assert np.abs(read_pgpg(model).mean).max() < 0.1
        assert main(["pgpg", "draw", str(model), "--output", str(figure)]) == 0
        assert cv2.imread(str(figure)) is not None
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((300, 400, 3), np.uint8))
        numbers = " ".join(["50"] * 16)
        (tmp_path / "list.txt").write_text(f"a.png\t100 100 200 250\t{numbers}\t{numbers}\n")
        capsys.readouterr()
        lines = []
        for seed in ("1", "1", "2"):
            assert main(["pgpg", "sample", str(model), "--annotations", str(tmp_path / "list.txt"), "--images",
                         str(tmp_path), "--count", "3", "--seed", seed]) == 0
            lines.append(capsys.readouterr().out.splitlines())
        assert lines[0] == lines[1] != lines[2]
        boxes = np.array([line.split()[1:] for line in lines[0]], np.float64)
        assert boxes.shape == (3, 4)
        assert (np.abs(boxes - (85, 77.5, 215, 272.5)) < 60).all(), "near the true box, grown by 30 %"

    def test_detections_of_other_pictures(self, tmp_path: Path, capsys):
        """The authors' boxes are of MPII's test images, whose joints are not published."""
        assert main(["pgpg", "fit", "--annotations", str(shared("authors", "rmpe_val.txt")), "--detections",
                     str(shared("authors")), "--output", str(tmp_path / "m.json")]) == 1
        assert "0 of the" in capsys.readouterr().err
        assert not (tmp_path / "m.json").exists()

    def test_missing_partner_files(self, capsys):
        assert main(["pgpg", "fit", "--annotations", "x", "--output", "m.json"]) == 2
        assert "--annotations needs --detections" in capsys.readouterr().err
