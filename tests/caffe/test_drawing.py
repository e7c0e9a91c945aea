"""Drawings of networks: which boxes and arrows there are, where they lie, and what the files hold."""

import os
import stat
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from paths import ROOT

from rmpe_legacy.caffe.drawing import draw_network
from rmpe_legacy.caffe.drawing.graph import NetworkGraph, box_lines, box_title, network_graph
from rmpe_legacy.caffe.drawing.layout import Layout, box_size, lay_out, parse_plain
from rmpe_legacy.caffe.load import read_net
from rmpe_legacy.cli import main
from rmpe_legacy.errors import NetError, RmpeError

NETWORKS = ROOT / "prototxt"
DATA = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
"""
SMALL = DATA + """layer { name: "b1_conv1" type: "Convolution" bottom: "data" top: "b1_conv1" param { name: "w" }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "b1_relu" type: "ReLU" bottom: "b1_conv1" top: "b1_conv1" }
layer { name: "b1_conv2" type: "Convolution" bottom: "b1_conv1" top: "b1_conv2" param { name: "w" }
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 bias_term: false } }
layer { name: "b1" type: "Eltwise" bottom: "b1_conv2" bottom: "data" top: "b1" }
layer { name: "out" type: "Softmax" bottom: "b1" top: "out" include { phase: TEST } }
layer { name: "lost" type: "Silence" bottom: "b1" include { phase: TRAIN } }
"""
# What graphviz 14 (dot -Tplain) answered for it
PLAIN = """graph 1 4.9554 6.8611
node b0 3.525 6.4375 1.4139 0.8472 "" solid box black lightgrey
node b1 2.2195 4.8819 4.4389 1.2639 "" solid box black lightgrey
node b2 2.2195 3.2222 4.4389 1.0556 "" solid box black lightgrey
node b3 3.525 1.7708 1.4139 0.8472 "" solid box black lightgrey
node b4 3.525 0.4236 1.8722 0.8472 "" solid box black lightgrey
edge b0 b1 4 3.1717 6.0102 3.0418 5.8582 2.8917 5.6825 2.7497 5.5163 solid black
edge b0 b3 10 4.1691 6.011 4.3289 5.8739 4.4793 5.7063 4.5667 5.5139 5.085 4.373 5.085 3.8353 4.5667 2.6944 \
4.4793 2.502 4.3289 2.3344 4.1691 2.1973 solid black
edge b1 b2 4 2.2195 4.2464 2.2195 4.0843 2.2195 3.9113 2.2195 3.7551 solid black
edge b2 b3 4 2.6945 2.6903 2.8432 2.5281 3.0053 2.3514 3.1464 2.1975 solid black
edge b3 b4 4 3.525 1.3431 3.525 1.1859 3.525 1.0069 3.525 0.84987 solid black
stop
"""


@pytest.fixture(autouse=True)
def no_graphviz(monkeypatch):
    """Drawings do not depend on what the machine has."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def small(tmp_path) -> Path:
    path = tmp_path / "small.prototxt"
    path.write_text(SMALL)
    return path


def graph_of(path: Path, phase: str = "TEST") -> NetworkGraph:
    return network_graph("title", read_net(path, phase, de_transform="paper").wire())


def overlapping(layout: Layout) -> list[tuple]:
    return [(a, b) for a, b in combinations(layout.boxes, 2)
            if a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]]


class TestGraph:
    def test_a_box_holds_what_works_in_place(self, small):
        assert [[layer.name for layer in box.layers] for box in graph_of(small).boxes] == [
            ["data"], ["b1_conv1", "b1_relu"], ["b1_conv2"], ["b1"], ["out"]]

    def test_edges_are_the_blobs_of_the_file(self, small):
        """The Split that serves two readers of data is not in the file."""
        assert graph_of(small).edges == [(0, 1, "data"), (1, 2, "b1_conv1"), (2, 3, "b1_conv2"), (0, 3, "data"),
                                         (3, 4, "b1")]

    def test_shared_parameters_phases_and_blocks(self, small):
        graph = graph_of(small)
        assert graph.shared == [(1, 2, "w")]
        assert [box.group for box in graph.boxes] == ["", "b1", "b1", "b1", ""]
        assert box_lines(graph.boxes[4])[1] == "Softmax, TEST only"
        assert graph_of(small, "TRAIN").boxes[-1].layers[0].name == "lost"

    def test_a_box_says_parameters_and_shapes(self, small):
        assert box_lines(graph_of(small).boxes[1]) == [
            "b1_conv1", "Convolution", "num_output 3, kernel_size 3, pad 1, bias_te...", "+ ReLU", "1 x 3 x 8 x 8"]

    def test_a_box_leaves_out_defaults_and_its_title_does_not(self, tmp_path):
        path = tmp_path / "net.prototxt"
        path.write_text(DATA + """
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
  convolution_param { num_output: 4 kernel_size: 3 stride: 1 pad: 0 pad: 1 dilation: 1 group: 1 bias_term: true } }
layer { name: "b" type: "Pooling" bottom: "a" top: "b" pooling_param { pool: MAX kernel_size: 2 stride: 2 pad: 0 } }
""")
        _, a, b = graph_of(path).boxes
        assert box_lines(a)[2] == "num_output 4, kernel_size 3, pad 0x1"
        assert box_lines(b)[2] == "pool MAX, kernel_size 2, stride 2"
        assert "stride 1, pad 0x1, dilation 1, group 1, bias_term true" in box_title(a)

    def test_more_boxes_than_anyone_can_read_are_refused(self, tmp_path, monkeypatch, small):
        monkeypatch.setattr("rmpe_legacy.caffe.drawing.graph.MAX_BOXES", 4)
        with pytest.raises(NetError, match="more than 4 layers to draw; draw a part of it with --until"):
            graph_of(small)


class TestLayout:
    @pytest.mark.parametrize("name", ["sppe_sstn/deploy", "ssd500/train", "demo/pose_deploy"])
    def test_boxes_do_not_overlap_and_data_flows_down(self, name):
        graph = graph_of(NETWORKS / f"{name}.prototxt", "TRAIN" if name.endswith("train") else "TEST")
        layout = lay_out(graph)
        assert not overlapping(layout)
        for (a, b, _), path in zip(graph.edges, layout.paths, strict=True):
            assert layout.boxes[a][1] + layout.boxes[a][3] <= path[0][1] + 1e-6 < path[-1][1] <= layout.boxes[b][1] + 1
            assert all(y <= v for (_, y), (_, v) in pairwise(path))
        for x, y, w, h in layout.boxes:
            assert 0 <= x <= x + w <= layout.width
            assert 0 <= y <= y + h <= layout.height

    def test_arrows_pass_beside_boxes(self):
        """An arrow over several layers has a lane of its own: no corner of it lies in a box."""
        layout = lay_out(graph_of(NETWORKS / "sppe_sstn" / "deploy.prototxt"))
        boxes = np.array(layout.boxes)
        for path in layout.paths:
            for x, y in path[1:-1]:
                inside = (boxes[:, 0] < x) & (x < boxes[:, 0] + boxes[:, 2]) & (boxes[:, 1] < y) & (
                    y < boxes[:, 1] + boxes[:, 3])
                assert not inside.any()

    def test_graphviz_places_boxes_where_it_is_installed(self, small, tmp_path, monkeypatch):
        graph = graph_of(small)
        sizes = [box_size(box_lines(box)) for box in graph.boxes]
        (tmp_path / "plain").write_text(PLAIN)
        dot = tmp_path / "dot"
        dot.write_text(f"#!/bin/sh\n/bin/cat > {tmp_path / 'asked'}\n/bin/cat {tmp_path / 'plain'}\n")
        dot.chmod(dot.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))
        layout = lay_out(graph)
        assert layout == parse_plain(PLAIN, graph, sizes)
        assert layout.curved
        assert not overlapping(layout)
        assert [len(path) for path in layout.paths] == [4, 4, 4, 10, 4]  # of the edges as the graph has them
        assert "b0 -> b3;" in (tmp_path / "asked").read_text()
        dot.write_text("#!/bin/sh\necho 'syntax error' >&2\nexit 1\n")
        with pytest.raises(RmpeError, match="dot failed: syntax error; take it off PATH"):
            lay_out(graph)


class TestFiles:
    def test_svg_names_every_layer(self, tmp_path):
        said = draw_network(NETWORKS / "sppe_sstn" / "deploy.prototxt", tmp_path / "net.svg")
        assert said.startswith("533 layers in phase TEST, drawn as 225 boxes")
        words = set("\n".join(ET.parse(tmp_path / "net.svg").getroot().itertext()).replace(" ", "\n").split("\n"))
        names = {spec.name for spec in read_net(NETWORKS / "sppe_sstn" / "deploy.prototxt", de_transform="paper").specs
                 if not spec.is_inserted}
        assert len(names) == 533
        assert names <= words

    def test_names_of_a_file_are_text(self, tmp_path):
        path = tmp_path / "net.prototxt"
        path.write_text(SMALL.replace('"b1_conv2"', '"<script>alert(1)</script>\\033[2J"'))
        draw_network(path, tmp_path / "net.html")
        page = (tmp_path / "net.html").read_text()
        assert "<script" not in page
        assert "\x1b" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page

    def test_svg_is_xml_whatever_the_names_are(self, tmp_path):
        path = tmp_path / "net.prototxt"
        path.write_text(SMALL.replace('"b1_conv2"', '"]]>--><![CDATA[&\\000\\377\\357\\277\\276"'), "utf-8")
        draw_network(path, tmp_path / "net.svg")
        assert any("]]>" in text for text in ET.parse(tmp_path / "net.svg").getroot().itertext())

    def test_png_is_an_image_with_boxes(self, small, tmp_path):
        draw_network(small, tmp_path / "net.png")
        image = cv2.imread(str(tmp_path / "net.png"))
        assert image.shape[0] > image.shape[1] > 300
        blue = (np.abs(image.astype(int) - (0xFA, 0xEB, 0xDC)).sum(axis=2) < 4).mean()
        assert 0.1 < blue < 0.9  # the two convolutions

    @pytest.mark.parametrize("scale", [0.8, 1, 1.14, 1.3, 1.5])
    def test_lines_of_a_png_stay_in_their_boxes(self, tmp_path, monkeypatch, scale):
        """Left and right of the longest line, its box has its own colour, however the image is scaled."""
        path = tmp_path / "net.prototxt"
        path.write_text(DATA + """layer { name: "a" type: "Convolution" bottom: "data" top: "a"
            convolution_param { num_output: 128 kernel_size: 7 stride: 2 pad: 3 } }""")
        monkeypatch.setattr("rmpe_legacy.caffe.drawing.png.SCALE", scale)
        draw_network(path, tmp_path / "net.png", until=["a"])
        image = cv2.imread(str(tmp_path / "net.png")).astype(int)
        blue = np.abs(image - (0xFA, 0xEB, 0xDC)).sum(axis=2) < 4
        rows, columns = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
        border, margin = round(2 * scale), round(5 * scale)
        inside = blue[rows[margin:-margin]]
        assert inside[:, columns[0] + border : columns[0] + margin].all()
        assert inside[:, columns[-1] - margin : columns[-1] - border].all()

    def test_html_has_the_table(self, small, tmp_path):
        draw_network(small, tmp_path / "net.html")
        assert "6 layers, 81 values" in (tmp_path / "net.html").read_text()  # shared weights count once

    def test_unknown_suffix(self, small, tmp_path):
        with pytest.raises(RmpeError, match=r"the suffix selects the format and must be one of \.svg, \.png"):
            draw_network(small, tmp_path / "net.jpg")

    def test_until(self, small, tmp_path):
        assert draw_network(small, tmp_path / "net.svg", until=["b1_conv1"]).startswith("3 layers")


def test_the_command(small, tmp_path, capsys):
    assert main(["draw", str(small), str(tmp_path / "net.dot")]) == 0
    assert capsys.readouterr().out == f"6 layers in phase TEST, drawn as 5 boxes: {tmp_path / 'net.dot'}\n"
    assert main(["draw", str(small), os.devnull + "/net.svg"]) == 1
