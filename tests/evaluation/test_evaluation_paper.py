"""The paper's tables as data: whether they are whole, and agree with themselves."""

from dataclasses import FrozenInstanceError

import pytest

from rmpe_legacy.paper import tables as paper

ROWS = [pytest.param(table, row, id=f"{table.source}, {row.method}") for table in paper.TABLES for row in table.rows]
MPII_ROWS = [pytest.param(table, row, id=f"{table.source}, {row.method}")
             for table in (paper.TABLE_1, paper.TABLE_3) for row in table.rows]


@pytest.mark.parametrize(("table", "row"), ROWS)
def test_a_row_has_a_value_per_column_and_a_source(table, row):
    assert len(row.values) == len(table.columns)
    assert all(0 < value < 100 for value in row.values)
    assert table.source.startswith((paper.PAPER, paper.README))
    assert table.row(row.method) == dict(zip(table.columns, row.values, strict=True))


@pytest.mark.parametrize(("table", "row"), MPII_ROWS)
def test_the_columns_average_to_the_printed_total(table, row):
    mean = sum(row.values[:-1]) / 7
    if row.method == "full":
        assert mean == pytest.approx(80.44, abs=0.005)
        assert "average to 80.4, not 80.8" in row.note
    else:
        assert mean == pytest.approx(row.values[-1], abs=0.1)


def test_the_readme_ends_at_the_papers_numbers():
    assert paper.README_MPII.rows[-1].values[0] == paper.TABLE_1.row("RMPE")["Total"]
    assert paper.README_COCO.rows[-1].values == tuple(paper.TABLE_2.row("RMPE").values())[:3]


def test_difficult_joints_are_wrists_elbows_ankles_and_knees():
    row = paper.TABLE_1.row("RMPE")
    (number,) = [n for n in paper.NUMBERS if n.what.startswith("difficult joints")]
    assert sum(row[c] for c in ("Wrist", "Elbow", "Ankle", "Knee")) / 4 == pytest.approx(number.value, abs=0.06)


def test_rmpe_is_the_best_of_its_tables():
    for table, column in ((paper.TABLE_1, "Total"), (paper.TABLE_2, "AP")):
        i = table.columns.index(column)
        assert max(row.values[i] for row in table.rows) == table.row("RMPE")[column]


def test_numbers_have_sources_and_names_of_their_own():
    assert all(number.source and number.unit for number in paper.NUMBERS)
    assert len({number.what for number in paper.NUMBERS}) == len(paper.NUMBERS)
    for table in paper.TABLES:
        assert len({row.method for row in table.rows}) == len(table.rows)


def test_an_unknown_method_is_no_row():
    with pytest.raises(KeyError, match="AlphaPose"):
        paper.TABLE_1.row("AlphaPose")


def test_tables_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        paper.TABLE_1.rows[0].method = "other"
