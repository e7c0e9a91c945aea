"""The command line: what it prints, what it writes, and that a mistake is one sentence and exit code 1."""

import os
import pickle
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import GOLDEN
from packed import unpacked
from paths import ROOT

from rmpe_legacy import __version__
from rmpe_legacy.caffe.layers import registry
from rmpe_legacy.cli import main
from rmpe_legacy.cli.version import version_text
from rmpe_legacy.errors import RmpeError

MODELS = unpacked("torch7/models")
V0 = GOLDEN / "layers" / "Net__v0_prototxt_v0_caffemodel"


class TestShow:
    def test_layers_shapes_parameters_and_sums(self, rmpe):
        code, out, err = rmpe("show", V0 / "net.prototxt", "--weights", V0 / "weights.caffemodel")
        assert (code, err) == (0, "")
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert lines[0] == "v0"
        assert "conv1 Convolution data -> conv1 1 x 4 x 5 x 5 weight 4 x 3 x 5 x 5, bias 4 [fits]" in lines
        assert "prob Softmax fc -> prob 1 x 6" in lines
        assert "inputs: data; outputs: prob, sig" in out
        assert "406 values" in out

    def test_a_weights_file(self, rmpe):
        code, out, err = rmpe("show", V0 / "weights.caffemodel")
        assert (code, err) == (0, "")
        lines = [" ".join(line.split()) for line in out.splitlines()]
        assert "conv1 Convolution 4 x 3 x 5 x 5, 1 x 1 x 1 x 4" in lines

    def test_weights_that_do_not_fit(self, rmpe):
        other = GOLDEN / "layers" / "Net__v1_double_blobs" / "weights.caffemodel"
        code, out, err = rmpe("show", V0 / "net.prototxt", "--weights", other)
        assert code == 1
        assert f"{other}: does not fit, or does not contain, conv1" in err
        assert "[does not fit: 4 x 3 x 3 x 3, 1 x 1 x 1 x 4]" in " ".join(out.split())  # over two lines
        assert "weights for a layer that the network does not have: conv2" in out

    @pytest.mark.parametrize("name", ["weights.caffemodel", "t7"])
    def test_files_that_are_exchanged(self, rmpe, name):
        file = MODELS / "hourglass.cuda.t7" if name == "t7" else V0 / name
        code, out, err = rmpe("show", file, "--weights", V0 / "net.prototxt")
        assert (code, out) == (1, "")
        assert err.startswith(f"rmpe: {file}: contains weights, but --weights ")

    def test_what_is_not_known_is_shown_as_it_stands(self, rmpe, tmp_path):
        path = tmp_path / "net.prototxt"
        path.write_text('layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 } } }\n'
                        'layer { name: "m" type: "Quad" bottom: "x" top: "y" quad_param { beta: 2.5 } }')
        code, out, _ = rmpe("show", path)
        assert code == 0
        assert f"{path}:2:1: m (Quad): unknown layer type" in out
        assert "quad_param {\n      beta: 2.5" in out

    def test_a_kind_of_unknown_thing_is_shown_once(self, rmpe, tmp_path):
        path = tmp_path / "net.prototxt"
        layers = [f'layer {{ name: "m{i}" type: "Quad" bottom: "x" top: "y{i}" quad_param {{ beta: {i} }} }}\n'
                  for i in range(99)]
        path.write_text("".join(['layer { name: "i" type: "Input" top: "x" }\n', *layers]))
        code, out, _ = rmpe("show", path)
        assert code == 0
        assert f"{path}: 198 fields or layers are left out of the above:" in out
        assert f"{path}:2:1: m0 (Quad): unknown layer type (99 times)" in out
        assert "LayerParameter has no field 'quad_param' (99 times)" in out
        assert len(out.splitlines()) < 20

    def test_an_option_that_is_set_aside(self, rmpe, tmp_path):
        path = tmp_path / "net.prototxt"
        path.write_text('layer { name: "i" type: "Input" top: "x" input_param { shape { dim: [1, 2, 3, 3] } } }\n'
                        'layer { name: "p" type: "PredictionHeatmap" bottom: "x" top: "y" visualise: true '
                        'prediction_heatmap_param { num_joints: 2 } }')
        code, out, _ = rmpe("show", path)
        assert code == 0
        assert f"{path}:2:1: p (PredictionHeatmap): visualise: true opens windows" in out

    @pytest.mark.parametrize("text", [
        'name: "\\033[31m" layer { name: "\\033]0;title\\007" type: "Input" top: "\\377\\376" }',
        'layer { name: "a" type: "\\033[2J" top: "x" } layer { name: "i" type: "Input" top: "\\302\\233" }',
        "layer { \x1b[31m }", 'layer { type: "ReLU" bottom: "\\033[31m" top: "y" }',
        'layer { name: "i" type: "Input" top: "x" strange: "\\033[31m\\n\\377" }',
    ])
    def test_names_cannot_control_the_terminal(self, rmpe, tmp_path, text):
        (tmp_path / "net.prototxt").write_text(text)
        _, out, err = rmpe("show", tmp_path / "net.prototxt")
        assert out + err
        for character in out + err:
            assert character == "\n" or character.isprintable()

    def test_a_terminal_that_knows_ascii_only(self, tmp_path):
        (tmp_path / "net.prototxt").write_text('name: "\u7b2c" layer { name: "caf\u00e9" type: "Input" top: "\\377" }')
        done = subprocess.run([sys.executable, "-m", "rmpe_legacy", "show", tmp_path / "net.prototxt"], cwd=ROOT,
                              env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False)
        assert done.returncode == 0
        assert b"caf\\xe9" in done.stdout
        assert b"\\u7b2c" in done.stdout

    def test_a_big_network_takes_no_memory(self, rmpe):
        code, out, _ = rmpe("show", ROOT / "prototxt" / "ssd500" / "deploy.prototxt")
        assert code == 0
        assert "23,445,510 values (93.8 MB) of parameters" in out


class TestMistakes:
    @pytest.mark.parametrize(("argv", "words"), [
        (["show", "no.prototxt"], "no.prototxt: No such file or directory"),
        (["show", "."], ".: Is a directory"),
        (["show", "/dev/zero"], "/dev/zero: is a device; give a file"),
        (["show", V0 / "net.prototxt", "--weights", "/dev/zero"], "/dev/zero: is a device; give a file"),
        (["show", ROOT / "LICENSE"], "LICENSE:1:5: expected ':' or '{' after BSD"),
        (["show", "empty"], "empty: has no layers; a network's prototxt is expected"),
        (["show", "utf16"], "utf16: not UTF-8 but apparently UTF-16; save it as UTF-8"),
        (["show", "page"], "page: this is a web page; the download went wrong; a prototxt is expected"),
        (["show", "pointer"], "pointer: this is a Git LFS pointer, not the file it points to; a prototxt is expected"),
        (["show", "null"], "null: not text; a prototxt is expected here"),
        (["show", V0 / "net.prototxt", "--plugin", "ends.py"],
         "ends.py: the plugin calls sys.exit(0), so the command was not run; a plugin must only register layers"),
        (["show", V0 / "net.prototxt", "--weights", V0 / "net.prototxt"], "this is text (a prototxt?)"),
        (["show", V0 / "net.prototxt", "--plugin", "no.py"], "no.py: no such plugin file"),
        (["show", V0 / "net.prototxt", "--plugin", "fails.py"], "fails.py: the plugin fails: NameError: name 'layer' "
         "is not defined (fails.py:2); -v shows the traceback"),
        (["show", V0 / "net.prototxt", "--plugin", "half.py"], "half.py: the plugin fails: SyntaxError: '(' was never "
         "closed (half.py, line 1)"),
    ])
    def test_are_one_sentence(self, rmpe, tmp_path, monkeypatch, argv, words):
        monkeypatch.chdir(tmp_path)
        text = 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
        for name, data in {"empty": b"", "utf16": text.encode("utf-16"), "page": b"<!doctype html><html></html>",
                           "pointer": b"version https://git-lfs.github.com/spec/v1\n", "null": text.encode() + b"\0",
                           "ends.py": b"import sys\nsys.exit(0)\n", "half.py": b"x = (",
                           "fails.py": b"def f():\n    return layer\nf()"}.items():
            (tmp_path / name).write_bytes(data)
        code, out, err = rmpe(*argv)
        assert code == 1
        assert err.startswith("rmpe: ")
        assert words in err
        assert "Traceback" not in err + out

    def test_verbose_shows_the_traceback_behind_an_error(self, rmpe, tmp_path):
        (tmp_path / "fails.py").write_text("def f():\n    return '\x1b' + 1\nf()")
        code, _, err = rmpe("show", V0 / "net.prototxt", "-v", "--plugin", tmp_path / "fails.py")
        assert code == 1
        assert err.startswith("Traceback (most recent call last):\n")
        assert f'  File "{tmp_path}/fails.py", line 3, in <module>\n' in err
        assert "\nTypeError: " in err
        assert err.splitlines()[-1].startswith(f"rmpe: {tmp_path}/fails.py: the plugin fails: TypeError: ")
        assert "\x1b" not in err

    def test_without_a_command_it_lists_them(self, rmpe):
        code, _, err = rmpe()
        assert code == 2
        assert "a prototxt, or" not in err
        assert "show" in err


def test_a_name_with_a_line_feed_stays_in_its_row(rmpe, tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "a\\nb" type: "Input" top: "x\\ty" input_param { shape { dim: 2 } } }')
    _, out, _ = rmpe("show", tmp_path / "net.prototxt")
    rows = out.splitlines()
    assert rows[2].startswith(r"a\nb ")
    assert r"x\ty 2" in rows[2]
    assert rows[4].startswith("1 layer, 0 values")
    assert r"inputs: x\ty; outputs: x\ty" in rows


def test_a_plugin_registers_layers(rmpe, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from rmpe_legacy import Layer, register\n"
        "@register('Twice')\n"
        "class Twice(Layer):\n"
        "    def forward(self, x):\n"
        "        return 2 * x\n")
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 } } }\n'
        'layer { name: "t" type: "Twice" bottom: "x" top: "y" }')
    try:
        code, out, _ = rmpe("show", tmp_path / "net.prototxt", "--plugin", tmp_path / "mine.py")
        assert code == 0
        assert "Twice" in out
        assert "unknown" not in out
    finally:
        registry._LAYERS.pop("Twice", None)


def test_output_into_head_is_no_error():
    command = f"{sys.executable} -m rmpe_legacy show {ROOT / 'prototxt' / 'sppe_sstn' / 'deploy.prototxt'} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rmpe_legacy {__version__}\n"


def test_verbose_version_has_what_a_bug_report_needs(capsys, monkeypatch):
    find = metadata.version

    def without_onnx(name: str) -> str:
        if name == "onnx":
            raise metadata.PackageNotFoundError(name)
        return find(name)

    monkeypatch.setattr(metadata, "version", without_onnx)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert main(["--version", "--verbose"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == f"rmpe_legacy {__version__}"
    details = {line[:25].strip(): line[25:] for line in rest}
    assert details["Python"].startswith(platform.python_version())
    assert details["torch"] == torch.__version__
    assert details["operators"].startswith("built with torch 2.")
    capability, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    assert details["CPU"].startswith(f"{platform.machine()}; torch uses {capability} and {threads} thread")
    assert (details["GPU"] == "none") == (torch.cuda.device_count() == 0)
    assert details["CUDA"].startswith(torch.version.cuda or "none; torch is built without it")
    assert details["installed in"] == str(ROOT / "rmpe_legacy")
    assert "ATEN_CPU_CAPABILITY=default" in details["environment"]
    assert details["numpy"] == np.__version__
    assert details["onnx"] == "not installed"


def test_a_version_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "x; torch cannot be loaded" in version_text(True).replace(platform.machine(), "x")


class TestArguments:
    @pytest.mark.parametrize(("command", "option", "value", "words"), [
        (["verify", "a", "b"], "--seed", "-1", "argument --seed: -1 is not from 0 to"),
        (["verify", "a", "b"], "--seed", "one", "argument --seed: invalid seed value: 'one'"),
        (["verify", "a", "b"], "--tolerance", "-1", "argument --tolerance: -1 is not a finite number of at least 0"),
        (["verify", "a", "b"], "--tolerance", "nan", "argument --tolerance: nan is not a finite number"),
        (["convert", "x", "y"], "--input-shape", "3,-1,9", "--input-shape: '3,-1,9' has a size that is not from 1"),
        (["convert", "x", "y"], "--input-shape", "data=3;9", "--input-shape: '3;9' is not whole numbers with commas"),
        (["convert", "x", "y"], "--input-shape", "=3,9", "--input-shape: '=3,9' names no input before its ="),
        (["forward", "x"], "--size", "9", "argument --size: '9' is not a height and a width, such as 227,227"),
        (["forward", "x"], "--scale", "nan", "argument --scale: 'nan' is not a finite number"),
        (["forward", "x"], "--scale", "half", "argument --scale: 'half' is not a finite number"),
        (["forward", "x"], "--mean", "1,inf", "argument --mean: '1,inf' is neither a finite number nor several with"),
    ])
    def test_out_of_range(self, capsys, command, option, value, words):
        with pytest.raises(SystemExit) as stopped:
            main([*command, f"{option}={value}"])
        assert stopped.value.code == 2
        assert words in capsys.readouterr().err


NAMES = 'layer { name: "a\\033[31mred\\007" type: "Input" top: "x\\377" input_param { shape { dim: 2 } } }'


class TestTerminal:
    """What a file says cannot command a terminal, and output that goes nowhere is an error."""

    def shown(self, tmp_path: Path, redirect: str = "", **environment: str) -> subprocess.CompletedProcess:
        (tmp_path / "net.prototxt").write_text(NAMES)
        return subprocess.run(f"{sys.executable} -m rmpe_legacy show net.prototxt {redirect}", shell=True, cwd=tmp_path,
                              capture_output=True, check=False, env={**os.environ, **environment})

    def test_control_characters_are_shown(self, tmp_path):
        done = self.shown(tmp_path)
        assert done.returncode == 0
        assert b"a\\x1b[31mred\\x07" in done.stdout
        assert b"x\\xff" in done.stdout
        assert not {*done.stdout} & {*range(9), *range(11, 32), 127}

    def test_in_a_complaint_too(self, rmpe, tmp_path):
        path = tmp_path / "net.prototxt"
        path.write_text('layer { name: "\\033[2J" type: "Quad\\033]0;x\\007" }')
        code, _, err = rmpe("forward", path)
        assert code == 1
        assert "\\x1b[2J (Quad\\x1b]0;x\\x07): unknown layer type" in err
        assert "\x1b" not in err

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
    def test_a_terminal_that_is_not_utf_8(self, tmp_path, encoding):
        (tmp_path / "net.prototxt").write_text(NAMES.replace("red", "größe中"))
        done = subprocess.run([sys.executable, "-m", "rmpe_legacy", "show", "net.prototxt"], cwd=tmp_path,
                              capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding})
        assert done.returncode == 0
        assert b"\\u4e2d" in done.stdout

    @pytest.mark.parametrize(("redirect", "words"), [
        (">/dev/full", b"standard output cannot be written: No space left on device"),
        (">&-", b"standard output is closed"),
    ])
    def test_output_that_goes_nowhere(self, tmp_path, redirect, words):
        done = self.shown(tmp_path, redirect)
        assert done.returncode == 1
        assert done.stderr.startswith(b"rmpe: " + words)
        assert done.stderr.count(b"\n") == 1

    @pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
    def test_nobody_to_complain_to(self, tmp_path, redirect):
        done = subprocess.run(f"{sys.executable} -m rmpe_legacy show none.prototxt {redirect}", shell=True,
                              cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_a_message_of_thousands_of_characters_is_cut():
    error = RmpeError("net.prototxt: " + "x" * 100_000 + "; give another")
    assert len(str(error)) < 600
    assert str(error).startswith("net.prototxt: xxx")
    assert "(100028 characters)" in str(error)
    assert str(error).endswith("; give another")
    assert str(RmpeError("line\n" * 500)).count("\n") < 110
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
