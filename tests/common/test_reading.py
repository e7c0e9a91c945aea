"""What readers share: the boundary for libraries, the limit for dimensions, silence on the terminal."""

import os
import sys
import threading

import numpy as np
import pytest

from rmpe_legacy.caffe.data.image import load_image
from rmpe_legacy.caffe.data.opencv_image import read_lines
from rmpe_legacy.errors import FileError, NetError
from rmpe_legacy.files import is_binary
from rmpe_legacy.readers.json_file import read_json
from rmpe_legacy.reading import expanded_limit, first_bytes, item_count, read_bytes, reading
from rmpe_legacy.silence import silent_stderr


class TestBoundary:
    @pytest.mark.parametrize(("error", "sentence"), [
        (ValueError("bad header\nmore"), "a.x: not a readable X file: bad header; the file is truncated, damaged or of "
         "another kind"),
        (KeyError("name"), "a.x: not a readable X file: 'name'; "), (AssertionError(), "a.x: not a readable X file: "
                                                                     "AssertionError; "),
        (SyntaxError("\n \n line"), "a.x: not a readable X file: line; "), (RecursionError("deep"), "nested too deep"),
        (MemoryError(), "a.x: needs more memory than there is"), (OSError(28, "No space left"), "a.x: No space left"),
        (FileNotFoundError(2, "No such file or directory"), "a.x: No such file or directory"),
    ])
    def test_whatever_a_library_raises(self, error, sentence):
        with pytest.raises(FileError) as caught, reading("a.x", "X file"):
            raise error
        assert sentence in str(caught.value)
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize("error", [NetError("ours"), KeyboardInterrupt(), SystemExit(3)])
    def test_what_passes_through(self, error):
        with pytest.raises(type(error)) as caught, reading("a.x", "X file"):
            raise error
        assert caught.value is error

    @pytest.mark.parametrize(("start", "binary"), [
        (b"\xa2\x06\x1e\n\x04data\x12\x05Input\"\x04data\xfa\x08\x08\n\x06\n\x04\x01\x03\x08\x08", True),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08", True), (bytes(64), True), (b"", False),
        ("# caf\xe9 \u4e2d\n".encode("gbk", "replace") * 9, False), (b"a: 1\t\x0c\r\n" * 9, False),
        (b"# a stray \x01, " + b"name: 'x' " * 20, False), (b"name: 'x' " * 20 + b"\0", False),
        ("name: 'x'".encode("utf-16"), False), ("name: 'x'".encode("utf-16-be"), False),
    ])
    def test_binary_or_text(self, start, binary):
        assert is_binary(start) == binary

    @pytest.mark.parametrize("read", [read_bytes, read_json, load_image, lambda path: read_lines(path, "a list")])
    def test_a_device_without_an_end_is_not_read(self, read):
        """A network names files to read, and may name this one."""
        with pytest.raises(FileError, match="/dev/zero: is a device; give a file"):
            read("/dev/zero")

    def test_the_beginning_of_a_file(self, tmp_path):
        (tmp_path / "a").write_bytes(b"x" * 1000)
        assert len(first_bytes(tmp_path / "a")) == 512
        for name in ("none", "a\0b"):
            with pytest.raises(FileError):
                first_bytes(tmp_path / name)


@pytest.mark.parametrize(("shape", "count"), [
    ((), 1), ((2, 3), 6), ((0, 5), 0), ((1,) * 32, 1), ((1 << 48,), 1 << 48), ((0, 1 << 48), 0),
    ((1,) * 33, None), ((-1,), None), ((1 << 48, 2), None), ((0, 1 << 48, 2), None), ((2,) * 1_000_000, None),
])
def test_how_many_values_a_shape_has(shape, count):
    assert item_count(shape) == count


def test_the_limit_of_unpacked_bytes_grows_with_the_file():
    assert expanded_limit(0) == 32 << 20
    assert expanded_limit(12 << 20) > 256 << 20  # MPII's annotations


class TestSilence:
    def test_nothing_is_seen_inside_and_all_of_it_outside(self, capfd):
        os.write(2, b"before ")
        with silent_stderr():
            os.write(2, b"a library ")
            with silent_stderr():
                os.write(2, b"another ")
            os.write(2, b"still ")
            sys.stderr.flush()
        os.write(2, b"after")
        assert capfd.readouterr().err == "before after"

    def test_after_an_exception(self, capfd):
        with pytest.raises(ValueError), silent_stderr():
            raise ValueError
        os.write(2, b"seen")
        assert capfd.readouterr().err == "seen"

    def test_of_many_threads_the_last_one_ends_it(self, capfd):
        def work() -> None:
            for _ in range(200):
                with silent_stderr():
                    os.write(2, b"x")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os.write(2, b"seen")
        assert capfd.readouterr().err == "seen"
        assert len(os.listdir("/proc/self/fd")) < 200  # no descriptor is left open

    def test_onnxruntime_says_nothing(self, capfd, tmp_path):
        onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
        from rmpe_legacy.formats.onnx import OnnxRunner

        made = onnx.helper
        nodes = [made.make_node("MatMul", ["x", "x"], ["y"])]
        value = [made.make_tensor_value_info(name, 1, shape) for name, shape in (("x", ["a", "b"]), ("y", None))]
        model = made.make_model(made.make_graph(nodes, "g", value[:1], value[1:]), ir_version=9,
                                opset_imports=[made.make_opsetid("", 17)])
        (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(NetError, match="onnxruntime cannot run it"):
            OnnxRunner(tmp_path / "a.onnx", "a.onnx").run({"x": np.zeros((2, 3), np.float32)})
        (tmp_path / "b.onnx").write_bytes(model.SerializeToString().replace(b"MatMul", b"MutMal"))
        with pytest.raises(FileError, match=r"b\.onnx: not a readable ONNX file: .*MutMal"):
            OnnxRunner(tmp_path / "b.onnx", "b.onnx")
        assert capfd.readouterr() == ("", "")
