"""What people expect of any command line: exit codes, quiet and verbose, progress in log files, completion; and
pycaffe's preprocessing for rmpe forward."""

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_estimators import draw_people, write_estimator

from rmpe_legacy import load_net, load_pipeline, load_torch7
from rmpe_legacy.caffe.data.image import detector_input, load_image
from rmpe_legacy.caffe.inputs import ImageOptions
from rmpe_legacy.cli import COMMANDS, main, make_parser, print_each_warning_once
from rmpe_legacy.cli.batch import duration, progress_lines
from rmpe_legacy.cli.examples import EXAMPLES
from rmpe_legacy.cli.terminal import LOGGER, start_logging
from rmpe_legacy.errors import FileError

NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 20 dim: 30 } } }
layer { name: "out" type: "Power" bottom: "data" top: "out" }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two images, boxes and an estimator."""
    path = tmp_path_factory.mktemp("images")
    draw_people(path, 17, images=2)
    write_estimator(path / "net.onnx", 17)
    return path


def demo(folder: Path, output: Path, *options: str) -> list[str]:
    return ["demo", str(folder), "--boxes", str(folder / "boxes.json"), "--pose", str(folder / "net.onnx"), "--output",
            str(output), *options]


class TestExitCodes:
    def test_done(self, folder, tmp_path):
        assert main(demo(folder, tmp_path / "out")) == 0

    def test_an_error(self, tmp_path):
        assert main(["demo", str(tmp_path / "nothing"), "--output", str(tmp_path / "out")]) == 1

    def test_usage(self):
        assert main([]) == 2
        with pytest.raises(SystemExit) as stopped:
            main(["demo", "--no-such-option"])
        assert stopped.value.code == 2

    def test_done_in_part(self, folder, tmp_path):
        (tmp_path / "images").mkdir()
        for path in folder.glob("*.png"):
            (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
        (tmp_path / "images" / "broken.png").write_bytes(b"\x89PNG")
        arguments = demo(folder, tmp_path / "out")
        arguments[1] = str(tmp_path / "images")
        assert main(arguments) == 3


class TestTypos:
    @pytest.mark.parametrize(("line", "says"), [
        ("dmeo", "rmpe: error: there is no command 'dmeo'; did you mean 'demo'?"),
        ("convrt a.prototxt b.onnx", "rmpe: error: there is no command 'convrt'; did you mean 'convert'?"),
        ("train_pose", "rmpe: error: there is no command 'train_pose'; did you mean 'train-pose'?"),
        ("photographs", "rmpe: error: there is no command 'photographs'; see `rmpe --help`"),
        ("--verson", "rmpe: error: there is no option '--verson'; did you mean '--version'?"),
        ("evaluate cocoo a b", "rmpe evaluate: error: there is no command 'cocoo'; did you mean 'coco'?"),
        ("demo photos --fromat=mpii", "rmpe demo: error: there is no option '--fromat'; did you mean '--format'?"),
        ("demo photos --xyz", "rmpe demo: error: there is no option '--xyz'; see `rmpe demo --help`"),
        ("detect photos --ouput x", "rmpe detect: error: there is no option '--ouput'; did you mean '--output'?"),
        ("test -model a -wieghts b", "rmpe test: error: there is no option '-wieghts'; did you mean '--weights'?"),
        ("hash", "rmpe hash: error: the following arguments are required: source; see `rmpe hash --help`"),
        ("prototxt a b", "rmpe prototxt: error: unexpected argument 'b'; see `rmpe prototxt --help`"),
        ("demo photos --published demotest",
         "rmpe demo: error: argument --published: there is no 'demotest'; did you mean 'demo-test'?"),
    ])
    def test_one_sentence_says_what_was_meant(self, line, says, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(line.split())
        assert stopped.value.code == 2
        assert capsys.readouterr() == ("", f"{says}\n")

    def test_other_choices_are_listed(self, capsys):
        with pytest.raises(SystemExit):
            main(["demo", "photos", "--published", "caffe"])
        said = capsys.readouterr().err
        assert said.startswith("rmpe demo: error: argument --published: invalid choice: 'caffe' (choose from ")
        assert "torch7" in said

    def test_formats(self, rmpe, folder, tmp_path):
        assert rmpe(*demo(folder, tmp_path / "out", "--format", "coco-result"))[::2] == (
            2, "rmpe: format 'coco-result' is not one of ours, coco-results, alphapose, openpose, mpii; did you mean "
               "'coco-results'?\n")

    @pytest.mark.parametrize("given", ["--format mpii alphapose", "--format mpii --format alphapose"])
    def test_formats_add_up(self, given):
        assert make_parser().parse_args(["demo", "photos", *given.split()]).format == ["ours", "mpii", "alphapose"]

    def test_control_characters_are_escaped(self, capsys):
        with pytest.raises(SystemExit):
            main(["\x1b[31mdemo"])
        assert capsys.readouterr().err == "rmpe: error: there is no command '\\x1b[31mdemo'; see `rmpe --help`\n"


class TestHelp:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_begins_with_a_sentence_and_ends_with_two_examples(self, name):
        parser = make_parser()._subparsers._group_actions[0].choices[name]
        text = parser.format_help()
        assert parser.description.partition("\n\n")[0].rstrip()[-1] in ".:"
        examples = text.rstrip().partition("examples:\n")[2].splitlines()
        assert len(examples) == 2
        assert all(line.startswith(f"  rmpe {name}") for line in examples)

    @pytest.mark.parametrize(("name", "example"), [(name, text) for name, both in EXAMPLES.items() for text in both])
    def test_the_examples_are_commands(self, name, example):
        if example.endswith("--help"):
            with pytest.raises(SystemExit) as stopped:
                make_parser().parse_args([name, *shlex.split(example)])
            assert stopped.value.code == 0
        else:
            assert callable(make_parser().parse_args([name, *shlex.split(example)]).run)

    def test_it_fits_100_columns(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        parsers = [make_parser()]
        for parser in parsers:
            kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
            parsers += [kind for action in kinds for kind in action.choices.values()]
        assert len(parsers) > len(COMMANDS)
        assert not [line for parser in parsers for line in parser.format_help().splitlines() if len(line) > 100]

    def test_no_command_is_forgotten(self):
        assert EXAMPLES.keys() == set(COMMANDS)


class TestNoise:
    def test_notes_are_shown_and_quiet_hides_them(self, folder, tmp_path, capsys):
        arguments = [*demo(folder, tmp_path / "a"), "--pose", str(folder / "net.onnx")]
        assert main(["convert", "nothing.prototxt", "x.onnx", "-q"]) == 1
        assert "nothing.prototxt" in capsys.readouterr().err  # errors are never hidden
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
        plain = ["demo", str(tmp_path / "a.png"), "--output", str(tmp_path / "b")]
        assert main(plain) == 0
        assert "trained on synthetic people" in capsys.readouterr().err
        assert main([*plain, "-q"]) == 0
        assert capsys.readouterr().err == ""
        assert main([*arguments, "-v"]) == 0
        assert "rmpe: finished in " in capsys.readouterr().err

    def test_a_command_that_reads_a_network_twice_warns_once(self, capsys):
        for _ in range(2):  # each command warns again
            start_logging()
            show = print_each_warning_once()
            for text in ("net.prototxt:3: this", "net.prototxt:3: this", "net.prototxt:4: that"):
                show(UserWarning(text), UserWarning, "net.py", 1)
            lines = capsys.readouterr().err.splitlines()
            assert lines == ["rmpe: warning: net.prototxt:3: this", "rmpe: warning: net.prototxt:4: that"]

    def test_quiet_and_verbose_exclude_each_other(self):
        with pytest.raises(SystemExit):
            main(["models", "-q", "-v"])

    def test_every_command_has_both(self):
        parser = make_parser()
        choices = parser._subparsers._group_actions[0].choices
        assert choices.keys() == set(COMMANDS)
        for name in ("show", "models", "demo", "convert"):
            assert {"-q", "--quiet", "-v", "--verbose"} <= choices[name]._option_string_actions.keys()

    def test_logging_of_the_package_can_be_configured_by_a_program(self, caplog):
        with caplog.at_level(logging.INFO, logger="rmpe_legacy"):
            LOGGER.info("hello")
        assert "hello" in caplog.text

    def test_calling_main_twice_does_not_double_the_lines(self, capsys):
        start_logging()
        start_logging()
        LOGGER.info("once")
        assert capsys.readouterr().err == "rmpe: once\n"


class TestProgress:
    def test_lines_in_a_log_file(self, capsys, monkeypatch):
        times = iter(range(0, 100, 4))
        monkeypatch.setattr("rmpe_legacy.cli.batch.time.monotonic", lambda: float(next(times)))
        start_logging()
        assert list(progress_lines(list("abcdefg"))) == list("abcdefg")
        lines = capsys.readouterr().err.splitlines()
        assert lines == ["rmpe: 2 of 7 images, 0.17 per second, 30 s left",
                         "rmpe: 5 of 7 images, 0.21 per second, 10 s left"]

    def test_short_runs_log_nothing(self, folder, tmp_path):
        run = subprocess.run([sys.executable, "-m", "rmpe_legacy", *demo(folder, tmp_path / "out")], text=True,
                             capture_output=True, check=True)
        assert run.stderr == ""

    @pytest.mark.parametrize(("seconds", "text"), [(5.2, "5 s"), (89, "89 s"), (90, "2 min"), (3600, "1 h 0 min"),
                                                   (12000, "3 h 20 min")])
    def test_durations(self, seconds, text):
        assert duration(seconds) == text


def test_the_shell_completes_commands(tmp_path):
    pytest.importorskip("argcomplete", reason="shell completion needs argcomplete, of the extra [completion]")
    line, out = "rmpe ide", tmp_path / "completions"
    program = "import sys; sys.argv[0] = 'rmpe'; import rmpe_legacy.cli as cli; cli.main()"
    environment = os.environ | {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
                                "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    shell = 'exec 8>"$1"; exec "$2" -c "$3"'  # bash reads completions from descriptor 8
    subprocess.run(["sh", "-c", shell, "sh", str(out), sys.executable, program], env=environment, check=False)
    assert out.read_text().split() == ["identify"]


class TestForward:
    @pytest.fixture
    def given(self, tmp_path) -> tuple[Path, Path]:
        (tmp_path / "net.prototxt").write_text(NET)
        image = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "photo.png"), image)
        return tmp_path / "net.prototxt", tmp_path / "photo.png"

    def forward(self, given, *options: str) -> np.ndarray:
        prototxt, photo = given
        output = prototxt.with_name("out.npz")
        assert main(["forward", str(prototxt), "--input", f"data={photo}", "--output", str(output), *options]) == 0
        with np.load(output) as arrays:
            return arrays["out"][0]

    def test_pycaffes_options_give_the_detectors_input(self, given, capsys):
        """transpose, channel_swap (2, 1, 0), raw_scale 255 and the mean, as demo.py sets its Transformer."""
        got = self.forward(given, "--mean", "104,117,123", "--raw-scale", "255", "--channel-order", "BGR")
        np.testing.assert_allclose(got, detector_input(load_image(given[1]), 20, 30), atol=1e-3)
        np.testing.assert_array_equal(self.forward(given, "--image", "detector"),
                                      detector_input(load_image(given[1]), 20, 30))

    def test_it_says_how_the_image_became_the_input(self, given, capsys):
        self.forward(given, "--mean", "104,117,123", "--raw-scale", "255", "--channel-order", "BGR", "--scale", "0.017")
        assert capsys.readouterr().err == (f"rmpe: data: {given[1]}, 47 x 33 pixels, resized to 30 x 20; BGR from 0 to "
                                           "255, minus 104, 117, 123, times 0.017\n")
        self.forward(given, "--image", "detector")
        assert "BGR from 0 to 255, minus 104, 117, 123\n" in capsys.readouterr().err
        self.forward(given)
        assert "RGB from 0 to 1\n" in capsys.readouterr().err

    def test_scale_and_one_mean(self, given):
        plain = self.forward(given)
        np.testing.assert_allclose(self.forward(given, "--mean", "0.5", "--scale", "2"), (plain - 0.5) * 2, atol=1e-6)

    def test_size_replaces_that_of_the_prototxt(self, given):
        assert self.forward(given, "--size", "12,16").shape == (3, 12, 16)

    def test_json_for_scripts(self, given, capsys):
        capsys.readouterr()
        out = self.forward(given, "--json", "-q")
        printed = json.loads(capsys.readouterr().out)
        assert printed["out"]["shape"] == [1, 3, 20, 30]
        assert printed["out"]["mean"] == pytest.approx(out.mean(), rel=1e-5)
        assert printed["out"]["finite"] is True

    def test_two_means_are_a_mistake(self, given, capsys):
        prototxt, photo = given
        assert main(["forward", str(prototxt), "--input", f"data={photo}", "--mean", "1,2"]) == 1
        assert "mean 1.0,2.0: give one number, or one per channel" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["forward", str(prototxt), "--size", "0,5"])

    def test_the_callers_image_stays_as_it_is(self):
        image = np.random.default_rng(0).random((4, 5, 3), np.float32)
        before = image.copy()
        ImageOptions(raw_scale=255).apply(image, 4, 5)
        np.testing.assert_array_equal(image, before)


URL = "https://example.org/file"


@pytest.mark.parametrize("call", [
    f"show {URL}", f"show net.prototxt --weights {URL}", f"draw {URL} net.svg", f"hash {URL}", f"identify {URL}",
    f"forward {URL} w.caffemodel", f"convert {URL} net.onnx", f"verify {URL} net.prototxt", f"detect {URL} --output o",
    f"demo a.png --boxes {URL} --output o", f"demo a.png --detector {URL} w.caffemodel --output o",
    f"demo a.png --pose {URL} --output o", f"nms --proposals {URL} --poses p --output o", f"evaluate mpii a.mat {URL}",
    f"train --solver {URL}", f"run {URL}"])
def test_a_url_is_said_to_be_one(tmp_path, monkeypatch, capsys, call):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    cv2.imwrite("a.png", np.zeros((9, 9, 3), np.uint8))
    assert main(shlex.split(call)) == (2 if call.startswith("verify") else 1)
    assert (f"{URL}: is a URL, and nothing is downloaded; download it and give the file"
            in capsys.readouterr().err.replace("/index.txt", ""))


@pytest.mark.filterwarnings("ignore:the networks in this package")
@pytest.mark.parametrize("load", [
    lambda: load_net(URL), lambda: load_net("net.prototxt", URL), lambda: load_net(Path(URL)), lambda: load_image(URL),
    lambda: load_torch7(URL), lambda: load_pipeline(pose=URL), lambda: load_pipeline(detector=(URL, URL)),
    lambda: load_pipeline()(URL)])
def test_a_url_in_python_too(tmp_path, monkeypatch, load):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    with pytest.raises(FileError, match=f"^{URL}: is a URL, and nothing is downloaded"):
        load()


def test_a_file_may_be_called_like_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("http:").mkdir()
    Path("http:/net.prototxt").write_text(NET)
    assert load_net("http://net.prototxt").name == ""


@pytest.mark.parametrize("call", ["show {}", "hash {}", "forward net.prototxt {}", "identify {}", "convert {} n.onnx",
                                  "demo a.png --output o --pose {}"])
def test_an_image_in_place_of_a_network_is_said_to_be_one(tmp_path, monkeypatch, capsys, call):
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    for name, kind in (("a.png", "a PNG image"), ("a.jpg", "a JPEG image")):
        cv2.imwrite(name, np.zeros((9, 9, 3), np.uint8))
        assert main(shlex.split(call.format(name))) == 1
        assert f"{name}: this is {kind}; a " in capsys.readouterr().err


@pytest.mark.parametrize("output", ["a.png", "a.png/inside/it", "/dev/null"])
def test_a_file_in_place_of_an_output_folder(tmp_path, monkeypatch, capsys, output):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", np.zeros((9, 9, 3), np.uint8))
    assert main(["detect", "a.png", "--output", output]) == 1
    place = output.removesuffix("/inside/it")
    assert capsys.readouterr().err == f"rmpe: {place}: is a file; give the name of a folder\n"


def test_forward_without_weights_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", np.zeros((20, 30, 3), np.uint8))
    Path("net.prototxt").write_text(NET.replace('"Power"', '"InnerProduct" inner_product_param { num_output: 2 }'))
    assert main(["forward", "net.prototxt", "--input", "data=a.png", "--output", "b.npz"]) == 0
    assert "rmpe: no weights are given: the parameters have the values of their fillers" in capsys.readouterr().err
    Path("net.prototxt").write_text(NET)
    assert main(["forward", "net.prototxt", "--input", "data=a.png", "--output", "b.npz"]) == 0
    assert "no weights" not in capsys.readouterr().err
