"""``rmpe plugin new``: what it writes works as it is, finds misspelt fields, and overwrites nothing."""

import subprocess
import sys

import pytest

from rmpe_legacy import RmpeError
from rmpe_legacy.runs.new_plugin import new_plugin


def run(*command, folder):
    return subprocess.run([sys.executable, *map(str, command)], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "fields", "module"), [
    ("MyLayer", (), "my_layer"), ("HTTPSum2D", ("alpha1", "alpha1_", "beta"), "http_sum2_d")])
def test_what_is_written_passes_its_own_test(tmp_path, name, fields, module):
    """In a process of its own: a registered type would stay for the other tests."""
    made = run("-m", "rmpe_legacy", "plugin", "new", name, *(f"--field={field}" for field in fields), "--folder", "own",
               folder=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith(f"own/{module}.py: fill in setup, reshape and forward; use it with --plugin ")
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [f"{module}.py", f"test_{module}.py"]
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{module}.py", folder=tmp_path / "own")
    assert tested.returncode == 0, tested.stdout
    assert "6 passed" in tested.stdout


def test_commands_take_it_and_find_a_misspelt_field(tmp_path):
    plugin, _ = new_plugin("MyLayer", tmp_path, ("factor", "offset"))
    prototxt = tmp_path / "net.prototxt"
    text = ('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }\n'
            'layer { name: "a" type: "MyLayer" bottom: "x" top: "y" my_layer_param { factor: 3 offset: 1 } }\n')
    prototxt.write_text(text)
    shown = run("-m", "rmpe_legacy", "show", "net.prototxt", "--plugin", plugin, folder=tmp_path)
    assert (shown.returncode, "MyLayer" in shown.stdout, "left out" in shown.stdout) == (0, True, False)
    prototxt.write_text(text.replace("offset", "ofset"))
    done = run("-m", "rmpe_legacy", "hash", "net.prototxt", "--plugin", plugin, folder=tmp_path)
    assert done.returncode == 1
    assert "net.prototxt:2:56: my_layer_param declares no field 'ofset'; did you mean 'offset'?" in done.stderr


@pytest.mark.parametrize("existing", ["my_layer.py", "test_my_layer.py"])
def test_overwrites_nothing(tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    with pytest.raises(RmpeError, match=f"{existing}: already exists and is not overwritten"):
        new_plugin("MyLayer", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(existing, "mine")]


@pytest.mark.parametrize(("name", "fields", "words"), [
    ("my_layer", ("factor",), "'my_layer' cannot be the name of a plugin's layer type; give letters and digits"),
    ("../Evil", ("factor",), "cannot be the name"), ("Übung", ("factor",), "cannot be the name"),
    ("A" * 1000, ("factor",), "cannot be the name"), ("None", ("factor",), "cannot be the name"),
    ("Layer", ("factor",), "cannot be the name"), ("", ("factor",), "cannot be the name"),
    ("Convolution", ("factor",), "Convolution is already a layer type of this package"),
    ("PSROIPooling", ("factor",), "is already a layer type of this package"),
    ("Torch", ("factor",), "its file torch.py would hide Python's own 'torch'"),
    ("Import", ("factor",), "its file import.py would hide Python's own 'import'"),
    ("MyLayer", (), "needs at least one field"), ("MyLayer", ("Factor",), "'Factor' cannot be the name of a field"),
    ("MyLayer", ("a b",), "cannot be the name of a field"), ("MyLayer", ("lambda",), "cannot be the name of a field"),
    ("MyLayer", ("forward",), "a field cannot be called 'forward', which every layer has"),
    ("MyLayer", ("spec",), "cannot be called 'spec'"), ("MyLayer", ("a", "a"), "field 'a' is given twice"),
])
def test_names_that_cannot_be_used(tmp_path, name, fields, words):
    with pytest.raises(RmpeError, match=words):
        new_plugin(name, tmp_path, fields)
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_working_directory_is_not_pythons(tmp_path, monkeypatch):
    """`python -m rmpe_legacy` finds modules there, and takes a folder for one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    (tmp_path / "my_scale").mkdir()
    new_plugin("MyScale")
    with pytest.raises(RmpeError, match=r"my_scale.py: already exists and is not overwritten"):
        new_plugin("MyScale")
    with pytest.raises(RmpeError, match="would hide Python's own 'numpy'"):
        new_plugin("Numpy")


def test_the_command_says_what_to_do_with_both_files(rmpe, tmp_path):
    code, out, err = rmpe("plugin", "new", "MyLayer", "--folder", tmp_path, "--field", "alpha")
    plugin, test = tmp_path / "my_layer.py", tmp_path / "test_my_layer.py"
    assert (code, err) == (0, "")
    assert out == (f"{plugin}: fill in setup, reshape and forward; use it with --plugin {plugin}\n"
                   f"{test}: run it with pytest {test}\n")
    assert 'self.alpha = self.field("alpha", 1.0)' in plugin.read_text()
    assert test.is_file()
    code, out, err = rmpe("plugin", "new", "MyLayer", "--folder", tmp_path)
    assert (code, out) == (1, "")
    assert err == (f"rmpe: {plugin}: already exists and is not overwritten; remove it, or choose another name or "
                   "--folder\n")
