"""Tables as text: aligned, at most 100 columns wide, and never wrapped inside a name or a shape."""

import time

import pytest

from rmpe_legacy.text_table import WIDTH, text_table, wrapped


def test_what_fits_is_aligned():
    assert text_table([("layer", "type", ""), ("conv1", "Convolution", "3 x 3"), ("r", "ReLU", "")]) == [
        "layer  type", "conv1  Convolution  3 x 3", "r      ReLU"]


def test_the_column_is_wrapped_that_costs_the_fewest_lines():
    rows = [("a", "one two three four", "short"), ("b", "one", "short"), ("c", "one", "a b c d e f g")]
    assert text_table(rows, 24) == ["a  one two     short",
                                    "   three four",
                                    "b  one         short",
                                    "c  one         a b c d e",
                                    "               f g"]


def test_shapes_and_the_names_of_rows_stay_whole():
    assert text_table([("a_long_name_that_is_never_cut_in_two", "data -> conv 1 x 64 x 500 x 500")], 58) == [
        "a_long_name_that_is_never_cut_in_two  data -> conv",
        "                                      1 x 64 x 500 x 500"]


def test_a_word_without_end_is_cut():
    assert text_table([("n" * 40, "x" * 70)], 90) == [f"{'n' * 40}  {'x' * 48}", f"{' ' * 42}{'x' * 22}"]


def test_paragraphs():
    text = wrapped("a" * 60 + " " + "b" * 60 + " c", "  ")
    assert text == "a" * 60 + "\n  " + "b" * 60 + " c"


@pytest.mark.parametrize("rows", [[("n" * 50_000, "T", "1 x 2, " * 50_000)] * 3,
                                  [("name", "T", "1 x 2, " * 20)] * 5_000], ids=["long cells", "many rows"])
def test_a_hostile_table_is_written_at_once(rows):
    """Found by fuzzing caffemodels: the time went with the square of a cell's length."""
    begun = time.process_time()
    lines = text_table(rows)
    assert time.process_time() - begun < 2
    assert len(lines) >= len(rows)
    assert max(map(len, lines)) <= 1000 + 2 * WIDTH


def test_a_row_that_is_not_among_the_longest_keeps_its_name_whole():
    rows = [("c", "word " * 40)] * 300 + [("a_name_of_27_characters_long", "ReLU")]
    assert text_table(rows)[-1] == "a_name_of_27_characters_long  ReLU"


@pytest.mark.parametrize("command", [
    ("layers",), ("layers", "Convolution"), ("layers", "SpatialTransformer"), ("dialects",), ("dialects", "caffe-face"),
    ("models",), ("models", "final-model"), ("models", "human-detector"), ("prototxt",)], ids=" ".join)
def test_every_commands_tables_fit(command, rmpe):
    code, out, _ = rmpe(*command)
    assert code == 0
    assert max(map(len, out.splitlines())) <= WIDTH


@pytest.mark.parametrize("name", ["ssd500", "demo/pose_deploy", "sppe_2hg_sstn"])
def test_networks_fit(name, rmpe, tmp_path):
    text = rmpe("prototxt", name)[1]
    (tmp_path / "net.prototxt").write_text(text)
    code, out, _ = rmpe("show", tmp_path / "net.prototxt")
    assert code == 0
    lines = out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.split()[:1] != [] and not line.startswith(" ") for line in lines) >= text.count("layer {")
