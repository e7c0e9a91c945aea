"""``rmpe run``: scripts and notebooks as they are, Python 2 among them."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from rmpe_legacy.errors import RmpeError
from rmpe_legacy.pycaffe import python2, python2_values
from rmpe_legacy.pycaffe.notebook import read_notebook
from rmpe_legacy.pycaffe.script import run_file

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 4 } } }
layer { name: "half" type: "Power" bottom: "data" top: "half" power_param { scale: 0.5 } }
"""
SCRIPT = """\
import sys
import caffe
from caffe.proto import caffe_pb2
net = caffe.Net('net.prototxt', caffe.TEST)
net.blobs['data'].data[...] = [2, 4, 6, 8]
print(net.forward()['half'].tolist(), sys.argv[1:], __name__, caffe_pb2.Datum.__name__)
"""
PYTHON_2 = """\
from helper import halve
import caffe
def places(n):
\tif n:
        \tprint 'tabs and blanks'
\treturn range(n)[::-1]
net = caffe.Net('net.prototxt', caffe.TEST)
for i in xrange(2):
    print "%d:" % i, halve(7), 7 / 2, 7 / 2.0, int(round(2.5)), net.blobs.keys()[-1]
try:
    raise ValueError, 'old'
except ValueError, error:
    print error
print places(3), {}.has_key(1), 10L
"""


def rmpe(*args, cwd, timeout=120):
    return subprocess.run([sys.executable, "-m", "rmpe_legacy", "run", *args], cwd=cwd, capture_output=True, text=True,
                          check=False, timeout=timeout)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path


def notebook(path, *cells, version=4):
    made = [{"cell_type": "code", "source" if version == 4 else "input": cell.splitlines(keepends=True)}
            for cell in cells]
    made.insert(0, {"cell_type": "markdown", "source": "# a title"})
    path.write_text(json.dumps({"cells": made} if version == 4 else {"worksheets": [{"cells": made}]}))


class TestScripts:
    def test_a_script_runs_unchanged_with_its_arguments(self, folder):
        (folder / "script.py").write_text(SCRIPT)
        done = rmpe("script.py", "--flag", "7", cwd=folder)
        assert done.stdout == "[[1.0, 2.0, 3.0, 4.0]] ['--flag', '7'] __main__ Datum\n"
        assert (done.returncode, done.stderr) == (0, "")

    def test_python_2_and_the_modules_it_imports(self, folder):
        (folder / "sub").mkdir()
        (folder / "helper.py").write_text("def halve(x):\n    x /= 2\n    return x\n")
        (folder / "script.py").write_text(PYTHON_2)
        done = rmpe("--py2", "script.py", cwd=folder)
        assert done.stderr == ""
        assert done.stdout.splitlines() == ["0: 3 3 3.5 3 half", "1: 3 3 3.5 3 half", "old", "tabs and blanks",
                                            "[2, 1, 0] False 10"]
        assert not list(folder.rglob("*.pyc"))

    def test_exit_codes_and_tracebacks_are_the_scripts(self, folder):
        (folder / "exit.py").write_text("import sys\nsys.exit(3)\n")
        assert rmpe("exit.py", cwd=folder).returncode == 3
        (folder / "bad.py").write_text("import caffe\n\ndef go():\n    caffe.Net('none.prototxt', caffe.TEST)\ngo()\n")
        done = rmpe("bad.py", cwd=folder)
        assert done.returncode == 1
        assert 'File "bad.py", line 4, in go' in done.stderr
        assert "none.prototxt: No such file or directory" in done.stderr
        assert "script.py" not in done.stderr

    def test_what_a_script_raises_is_shown_without_our_frames(self, folder):
        (folder / "bad.py").write_text("import caffe\nnet = caffe.Net('net.prototxt', caffe.TEST)\n"
                                       "net.forward(end='no')")
        done = rmpe("bad.py", cwd=folder)
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback (most recent call last):\n  File \"bad.py\", line 3")
        assert done.stderr.count("File ") == 1
        assert "the network has no layer 'no'" in done.stderr

    def test_an_operation_of_python_2_ends_in_the_script(self, folder):
        (folder / "script.py").write_text("a, key = {}, 1.5\nprint a[key]\n")
        done = rmpe("--py2", "script.py", cwd=folder)
        assert done.returncode == 1
        assert "rmpe_legacy" not in done.stderr
        assert done.stderr.endswith("KeyError: 1.5\n")

    def test_the_message_of_an_exit_stands_alone(self, folder):
        (folder / "exit.py").write_text("import sys\nsys.exit('stop here')\n")
        done = rmpe("exit.py", cwd=folder)
        assert (done.returncode, done.stderr) == (1, "stop here\n")

    @pytest.mark.parametrize(("name", "text", "sentence"), [
        ("nul.py", "x = 1\n\0", "nul.py:2:1: contains a null byte; this is not a Python script"),
        ("open.py", "x = (\n", "open.py:1:5: not Python 3: '(' was never closed; --py2 translates Python 2"),
        ("old.py", "x = 1\nprint x\n", "old.py:2:1: not Python 3: Missing parentheses"),
        ("coding.py", "# -*- coding: nonsense -*-\n", "coding.py:1:1: not Python 3: unknown encoding"),
        ("book.ipynb", "nonsense", "book.ipynb: not a notebook"),
        ("folder.py", Path, "folder.py: Is a directory"),
    ])
    def test_what_is_no_python_3_is_one_sentence(self, folder, monkeypatch, name, text, sentence):
        monkeypatch.chdir(folder)
        if text is Path:
            (folder / name).mkdir()
        else:
            (folder / name).write_text(text)
        with pytest.raises(RmpeError) as caught:
            run_file(name)
        assert str(caught.value).startswith(sentence)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("name", "text", "sentence"), [
        ("none.py", None, "none.py: No such file"),
        ("nul.py", "x = 1\n\0", "nul.py:2:1: contains a null byte; this is not a Python script"),
        ("open.py", "x = (\n", "open.py:1:5: neither Python 2 nor Python 3"),
        ("neither.py", "print 1 +* 2\n", "neither.py:1:9: neither Python 2 nor Python 3"),
    ])
    def test_what_cannot_be_run_is_one_sentence(self, folder, name, text, sentence):
        if text is not None:
            (folder / name).write_text(text)
        done = rmpe("--py2", name, cwd=folder)
        assert done.returncode == 1
        assert done.stderr.startswith(f"rmpe: {sentence}")
        assert done.stderr.count("\n") == 1


class TestNotebooks:
    @pytest.mark.parametrize("version", [3, 4])
    def test_cells_magics_figures_and_values(self, folder, version):
        (folder / "books").mkdir()
        notebook(folder / "books" / "book.ipynb", "%matplotlib inline\nimport os\nos.chdir('..')\nimport caffe",
                 "net = caffe.Net('net.prototxt', caffe.TEST)\nprint net.blobs.keys()\n5 / 2",
                 "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nx = 1\n%xdel x", "!echo shell", version=version)
        done = rmpe("--py2", "--figures", "figures", "books/book.ipynb", cwd=folder)
        assert done.stderr == ""
        assert done.stdout == "['data', 'half']\n2\nshell\n"
        assert (folder / "figures" / "cell-3-1.png").read_bytes().startswith(b"\x89PNG")

    def test_an_error_names_the_cell_and_its_line(self, folder):
        notebook(folder / "book.ipynb", "x = 1", "y = 2\nx / 0")
        done = rmpe("book.ipynb", cwd=folder)
        assert done.returncode == 1
        assert 'File "book.ipynb[cell 2]", line 2' in done.stderr
        assert "ZeroDivisionError" in done.stderr

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": 3}', '{"cells": [1]}', '{"worksheets": [{}]}',
                                         '{"cells": [{"cell_type": "code", "source": 3}]}', "[" * 100000],
                             ids=lambda content: content[:20] or "empty")
    def test_what_is_no_notebook_is_one_sentence(self, tmp_path, content):
        (tmp_path / "book.ipynb").write_text(content)
        with pytest.raises(RmpeError, match=r"book\.ipynb: not a notebook"):
            read_notebook(tmp_path / "book.ipynb")

    def test_a_notebook_exported_as_a_script(self, folder):
        (folder / "script.py").write_text("""\
# coding: utf-8
# In[1]:
get_ipython().magic(u'matplotlib inline')
get_ipython().run_line_magic('time', 'x = 1')
get_ipython().run_cell_magic('time', '', 'y = x + 1\\nz = y + 1')
get_ipython().system('echo shell')
print(x, y, z)
""")
        done = rmpe("script.py", cwd=folder)
        assert (done.stdout, done.returncode) == ("shell\n1 2 3\n", 0), done.stderr
        (folder / "script.py").write_text("get_ipython().magic('frobnicate')")
        done = rmpe("script.py", cwd=folder)
        assert done.returncode == 1
        assert "script.py, line 1: the magic '%frobnicate' is not supported; remove it" in done.stderr

    def test_unknown_magics_name_the_cell(self, tmp_path):
        notebook(tmp_path / "book.ipynb", "x = 1", "y\n%frobnicate")
        with pytest.raises(RmpeError, match=r"cell 2, line 2: the magic '%frobnicate' is not supported"):
            read_notebook(tmp_path / "book.ipynb")

    def test_a_remainder_at_the_start_of_a_line_is_no_magic(self, tmp_path):
        notebook(tmp_path / "book.ipynb", "print('%d'\n      % 3)", "%%time\ny = 1", "%cd some folder")
        assert [cell.source for cell in read_notebook(tmp_path / "book.ipynb")] == [
            "print('%d'\n      % 3)", "pass\ny = 1", "import os; os.chdir('some folder')"]


class TestPython2:
    def run(self, source: str) -> dict:
        names = python2_values.python2_names()
        exec(python2.compile_python2(textwrap.dedent(source), "script.py"), names)
        return names

    def test_division(self):
        names = self.run("""
            import numpy as np
            a, b, c = 7 / 2, -7 / 2, 7 / 2.
            d = np.array([7, 8]) / 2
            e = np.array([7., 8.]); e /= 2
            f = [9]; f[0] /= 2
        """)
        assert (names["a"], names["b"], names["c"]) == (3, -4, 3.5)
        assert names["d"].tolist() == [3, 4]
        assert names["e"].tolist() == [3.5, 4]
        assert names["f"] == [4]

    def test_true_division_where_the_source_asks_for_it(self):
        assert self.run("from __future__ import division\na = 7 / 2")["a"] == 3.5

    def test_arrays_of_one_value_are_numbers(self):
        names = self.run("""
            import numpy as np
            one = np.array([2.5])
            a = int(one), float(one)
            b = np.zeros(2); b[0] = one
            c = {}; c[0] = one
        """)
        assert names["a"] == (2, 2.5)
        assert names["b"].tolist() == [2.5, 0]
        assert names["c"][0] is names["one"]

    def test_floats_index_arrays(self):
        names = self.run("""
            import numpy as np
            a = np.arange(12).reshape(3, 4)
            half, two = 1.5, np.float32(2)
            b = a[half, two], a[two][1:2.9].tolist(), a[:half, ::two].tolist(), a[(half, 0)], a[-half].tolist()
            c = a.copy(); c[half] = 7; c[0, half:two * 2] += 1; c[two, 0] /= 2.
            d = {1.5: 'kept'}; d[2.5] = d[half]
            e = [a, a]; e[0][two, two] = np.array([5])
            del d[half]
            f = "text"[1:], range(5)[::2], (1, 2)[-1]
        """)
        assert names["b"] == (6, [9], [[0, 2]], 4, [8, 9, 10, 11])
        assert names["c"].tolist() == [[0, 2, 3, 4], [7, 7, 7, 7], [4, 9, 10, 11]]
        assert names["d"] == {2.5: "kept"}
        assert names["a"][2, 2] == 5
        assert names["f"] == ("ext", [0, 2, 4], 2)

    def test_an_index_that_is_none_is_still_an_error(self):
        with pytest.raises(KeyError):
            self.run("a, key = {}, 1.5\na[key]")
        with pytest.raises(TypeError):
            self.run("a, at = [1, 2], 0.0\na[at]")

    def test_minus_is_not_for_truth_values(self):
        names = self.run("""
            import numpy as np
            a = np.array([True, False])
            b = -a, -(a[0] == a[0]), -np.arange(2), -True
        """)
        assert names["b"][0].tolist() == [False, True]
        assert names["b"][1] == np.False_
        assert names["b"][2].tolist() == [0, -1]
        assert names["b"][3] == -1

    def test_bytes_as_text(self):
        names = self.run("""
            image = bytearray([255, 216, 0, 10])
            a = str(image), str(b"00001"), "%s.jpg" % b"00001", "{}".format(b"key")
        """)
        assert names["a"] == (b"\xff\xd8\0\n", "00001", "00001.jpg", "key")

    def test_databases_with_keys_of_text(self, folder):
        pytest.importorskip("lmdb")
        (folder / "script.py").write_text(textwrap.dedent("""
            import lmdb, caffe
            import numpy as np
            from caffe.proto import caffe_pb2
            image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
            db = lmdb.open('images', map_size=1 << 20)
            with db.begin(write=True) as txn:
                for i in range(3):
                    datum = caffe_pb2.Datum(channels=3, height=2, width=2, label=i, data=(image + i).tostring())
                    txn.put('{:0>5d}_a'.format(i), datum.SerializeToString())
            with db.begin() as txn:
                for key, value in txn.cursor():
                    datum.ParseFromString(value)
                    flat = np.fromstring(datum.data, dtype=np.uint8)
                    flat[0] += 1
                    print key.split('_')[0], datum.label, caffe.io.datum_to_array(datum).sum(), flat[:2]
                cursor = txn.cursor()
                print cursor.set_key('00001_a'), cursor.key() + '!', txn.get('00002_a') == value, txn.get('b')
                print [key for key in cursor.iternext(values=False)] == [], db.stat()['entries']
            db.close()
        """))
        done = rmpe("--py2", "script.py", cwd=folder)
        assert done.stdout.splitlines() == ["00000 0 66 [1 1]", "00001 1 78 [2 2]", "00002 2 90 [3 3]",
                                            "True 00001_a! True None", "False 3"], done.stderr

    def test_pickles_of_python_2(self, folder):
        # {'data': numpy.array([1, 2], dtype=numpy.uint8), 'name': '\xe9'}, protocol 2, as Python 2.7 wrote it
        written = (b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
                   b"K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02u1q\nK\x00K\x01"
                   b"\x87q\x0bRq\x0c(K\x03U\x01|q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x02\x01\x02q\x0f"
                   b"tq\x10bU\x04nameq\x11U\x01\xe9q\x12u.")
        (folder / "a.pkl").write_bytes(written)
        (folder / "b.pkl").write_bytes(b"(dp0\nS'one'\np1\nI1\ns.")  # protocol 0 is text
        (folder / "script.py").write_text(
            "import cPickle\na = cPickle.load(open('a.pkl'))\nprint a['data'].tolist(), a['name'] == u'\\xe9'\n"
            "print cPickle.load(open('b.pkl')), cPickle.loads(open('b.pkl').read())['one'], "
            "cPickle.loads(cPickle.dumps(2))")
        done = rmpe("--py2", "script.py", cwd=folder)
        assert (done.stdout, done.returncode) == ("[1, 2] True\n{'one': 1} 1 2\n", 0), done.stderr

    def test_sizes_of_arrays_may_be_floats(self, folder):
        (folder / "script.py").write_text(
            "import numpy as np\nfrom numpy import ones\n"
            "print np.zeros((2.0, 3)).shape, ones([np.floor(2.9), 1]).shape, np.empty(4.0).shape, "
            "np.full(shape=(2., 2), fill_value=7).shape, np.linspace(0, 1, 5.0).size, np.zeros(3, 'uint8').dtype\n"
            "np.zeros('a')\n")
        done = rmpe("--py2", "script.py", cwd=folder)
        assert done.stdout == "(2, 3) (2, 1) (4,) (2, 2) 5 uint8\n", done.stderr
        assert done.stderr.splitlines()[-1].startswith("TypeError: ")

    @pytest.mark.parametrize(("value", "digits", "want"), [
        (0.5, 0, 1.0), (-0.5, 0, -1.0), (1.5, 0, 2.0), (2.5, 0, 3.0), (0.49999999999999994, 0, 0.0), (2.25, 1, 2.3),
        (float("inf"), 0, float("inf")), (7, 0, 7.0)])
    def test_round(self, value, digits, want):
        assert python2_values.round_half_away(value, digits) == want

    @pytest.mark.parametrize(("value", "text"), [  # printed by Python 2.7.18
        (0.1 + 0.2, "0.3"), (1 / 3, "0.333333333333"), (2.0, "2.0"), (1e11, "1e+11"), (99999999999.0, "99999999999.0"),
        (123456789012.0, "1.23456789012e+11"), (1e16, "1e+16"), (1e-5, "1e-05"), (-0.0, "-0.0"), (1e300, "1e+300"),
        (float("nan"), "nan"), (float("-inf"), "-inf")])
    def test_floats_have_12_digits_as_text(self, value, text):
        assert python2_values.float_text(value) == text

    def test_floats_in_formats(self):
        names = self.run("""
            import numpy as np
            third, single = 1 / 3., np.float32(0.1)
            a = str(third), "%s %r %.2f %d" % (third, third, third, 7.9), "{} {:.2f}".format(third, third)
            b = map(str, [third]), "%s" % third, "%(x)s" % {"x": third}, str([third]), "{0}".format(np.float64(third))
            c = str(single), "{}".format(single), "%s" % single, 7 % 4, "{}".format("%s")
        """)
        short = "0.333333333333"
        assert names["a"] == (short, f"{short} 0.3333333333333333 0.33 7", f"{short} 0.33")
        assert names["b"] == ([short], short, short, "[0.3333333333333333]", short)
        assert names["c"] == ("0.1", "0.10000000149", "0.1", 3, "%s")

    def test_a_holder_that_a_call_gives_is_asked_once(self):
        names = self.run("""
            calls = []
            def holder():
                calls.append(1)
                return calls
            holder()[0] = 5
        """)
        assert names["calls"] == [5]

    def test_files_hold_text_or_bytes(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        names = self.run("""
            import pickle
            with open("values", "w") as file:
                pickle.dump([1.5], file, 2)
            with open("text", "w") as file:
                file.write("words")
            with open("values") as file:
                values = pickle.load(file)
            with open("values") as first, open("text") as second:
                raw, text = first.read(), second.read()
        """)
        assert (names["values"], names["text"], type(names["raw"])) == ([1.5], "words", bytes)

    def test_windows_become_files(self, folder):
        (folder / "script.py").write_text(textwrap.dedent("""
            import cv2, numpy as np, matplotlib.pyplot as plt
            cv2.namedWindow("w")
            while True:
                cv2.imshow("w", np.zeros((4, 4, 3), np.uint8))
                if cv2.waitKey(1) & 0xFF == 27:
                    break
            plt.plot([1, 2])
            plt.hold(True)
            plt.show()
            print(cv2.CV_AA == cv2.LINE_AA, cv2.cv.CV_CAP_PROP_FPS == cv2.CAP_PROP_FPS)
        """))
        done = rmpe("--figures", "shown", "script.py", cwd=folder)
        assert done.stdout == "True True\n", done.stderr
        assert sorted(path.name for path in (folder / "shown").iterdir()) == ["figure-1.png", "window-1.png"]

    def test_everything_from_numpy_leaves_pythons_functions(self, folder):
        (folder / "script.py").write_text(
            "import builtins\nfrom numpy import *\n"
            "print(max(1.5, 0.0), min(2.5, 1), abs is builtins.abs, round(2.4, 0), pow(2, 5, 7), bool is type(True))\n"
            "print(zeros(2).sum(), sum(ones(3)), amax(array([1, 2])))\n")
        done = rmpe("script.py", cwd=folder)
        assert done.stdout == "1.5 1 True 2.0 4 True\n0.0 3.0 2\n", done.stderr

    def test_old_names_of_modules(self, folder):
        (folder / "script.py").write_text("import Image, time\nImage.new('RGB', (2, 3)).save('a.png')\ntime.clock()\n")
        done = rmpe("--py2", "script.py", cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert (folder / "a.png").exists()

    def test_rescale_leaves_the_channels_as_scikit_image_did(self, folder):
        package = folder / "skimage"  # today's interface, in a stand-in
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "transform.py").write_text(
            "def rescale(image, scale, order=None, *, channel_axis=None):\n    return channel_axis, order\n")
        (folder / "script.py").write_text("""\
import numpy as np
from skimage.transform import rescale
grey, colour = np.zeros((4, 4)), np.zeros((4, 4, 3))
print(rescale(grey, 2), rescale(colour, 2, 1))
print(rescale(colour, 2, multichannel=False), rescale(colour, 2, channel_axis=0))
""")
        done = rmpe("script.py", cwd=folder)
        assert (done.stdout, done.returncode) == ("(None, None) (-1, 1)\n(None, None) (0, None)\n", 0), done.stderr

    def test_ticks_and_backgrounds_of_axes(self, folder):
        (folder / "script.py").write_text(textwrap.dedent("""
            import matplotlib
            matplotlib.use("Agg")
            import matplotlib.pyplot as plt
            axes = plt.figure().add_subplot(111)
            axes.set_axis_bgcolor("red")
            for tick in axes.xaxis.get_major_ticks():
                tick.label.set_fontsize(8)
            print(tick.label1.get_fontsize(), axes.get_facecolor() == (1, 0, 0, 1))
        """))
        done = rmpe("script.py", cwd=folder)
        assert (done.stdout, done.returncode) == ("8.0 True\n", 0), done.stderr

    def test_colour_maps_by_name(self, folder):
        (folder / "script.py").write_text(
            "import matplotlib, pylab as plt\nprint(matplotlib.cm.get_cmap('hsv').name, plt.get_cmap('hsv').name)\n")
        done = rmpe("script.py", cwd=folder)
        assert (done.stdout, done.returncode) == ("hsv hsv\n", 0), done.stderr

    def test_arrays_are_printed_in_full(self, folder):
        (folder / "script.py").write_text("import numpy as np\nfor threshold in ('nan', np.nan):\n"
                                          "    np.set_printoptions(threshold=threshold)\n    print(np.zeros(2000))\n"
                                          "np.set_printoptions(3, threshold=5)\nprint(np.arange(9) / 3)\n")
        done = rmpe("script.py", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("0.") > 4000
        assert done.stdout.endswith("[0.    0.333 0.667 ... 2.    2.333 2.667]\n")

    def test_yaml_without_a_loader(self, folder):
        (folder / "yaml.py").write_text(textwrap.dedent("""\
            class FullLoader: pass
            def load(stream, Loader): return stream, Loader.__name__
            def load_all(stream, Loader): return [load(stream, Loader)]
        """))  # today's interface, in a stand-in
        (folder / "script.py").write_text("import yaml\nclass Own: pass\n"
                                          "print(yaml.load('a'), yaml.load_all('a'), yaml.load('b', Loader=Own))\n")
        done = rmpe("script.py", cwd=folder)
        assert (done.stdout, done.returncode) == ("('a', 'FullLoader') [('a', 'FullLoader')] ('b', 'Own')\n", 0), (
            done.stderr)

    def test_python_3_goes_through(self):
        assert self.run("x = 3\ny = f'{x!r}'")["y"] == "3"

    def test_strings_of_bytes(self):
        names = self.run("from cStringIO import StringIO\nf = StringIO()\nf.write(b'a')")
        assert names["f"].getvalue() == b"a"

    def test_what_libraries_no_longer_have(self, folder):
        (folder / "script.py").write_text(
            "import numpy as np\nfrom scipy import misc\nprint np.float, np.int(3), np.array([True]).astype(np.bool)\n"
            "misc.imsave('a.png', np.arange(12).reshape(2, 2, 3).astype(np.uint8))\n"
            "from scipy.misc import imread\nprint imread('a.png').tolist(), misc.imresize(imread('a.png'), 200).shape\n"
            "try:\n    misc.derivative\nexcept AttributeError:\n    print 'no derivative'\n")
        done = rmpe("--py2", "script.py", cwd=folder)
        first, second, third = done.stdout.splitlines()
        assert third == "no derivative"
        assert first == "<class 'float'> 3 [ True]", done.stderr
        assert second == "[[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]] (4, 4, 3)"

