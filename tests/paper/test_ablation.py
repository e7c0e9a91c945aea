"""The ablation: trained and judged with a tiny budget, resumed, refused; its table from results that are given."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from paths import ROOT

from rmpe_legacy.cli import main
from rmpe_legacy.errors import FileError, RmpeError
from rmpe_legacy.paper import ablation as module
from rmpe_legacy.paper.ablation import BUDGETS, ROWS, TRAININGS, Ablation, Budget, Progress, Result
from rmpe_legacy.paper.ablation_table import ablation_figure, ablation_table, by_row, write_ablation
from rmpe_legacy.paper.drawn_ap import SyntheticTestSet
from rmpe_legacy.paper.tables import MPII_COLUMNS, TABLE_3
from rmpe_legacy.pose.demo_models import DE_TRANSFORM, demo_model
from rmpe_legacy.pose.detect import load_detector
from rmpe_legacy.pose.estimate import load_pose_network
from rmpe_legacy.pose.published import get_recipe

TINY = Budget("tiny", 1, 1, 2, 2, 60, 1)


def ablation(folder: Path, budget: Budget = TINY, said: list | None = None, action=lambda: "none") -> Ablation:
    return Ablation(budget, folder / "work", folder / "results", Progress((said if said is not None else []).append,
                                                                         action))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, list[str]]:
    """All rows of one seed with the tiny budget, and what was said."""
    folder, said = tmp_path_factory.mktemp("ablation"), []
    assert ablation(folder, said=said).run()
    return folder, said


class TestRun:
    def test_leaves_a_file_for_each_row(self, finished):
        folder, said = finished
        files = sorted((folder / "results" / "tiny").glob("*.json"))
        assert len(files) == len(ROWS)
        content = json.loads(files[0].read_text())
        assert content["settings"]["iterations"] == 1
        assert {"machine", "seconds", "torch", "rmpe_legacy"} <= content.keys()
        assert sum(text.startswith("training") for text in said) == 1 + len(TRAININGS), "one SPPE serves all rows"

    def test_what_is_finished_is_not_trained_again(self, finished):
        folder, _ = finished
        said: list[str] = []
        assert ablation(folder, said=said).run()
        assert not said

    def test_a_row_that_is_removed_comes_back_with_the_same_numbers(self, finished):
        folder, _ = finished
        again, said = ablation(folder), []
        path = again.path("without PGPG", 1)
        before = again.read("without PGPG", 1)
        path.unlink()
        for trained in (folder / "work" / "seed1" / "without_PGPG").glob("*"):
            trained.unlink()
        assert ablation(folder, said=said).run()
        assert [text.partition(":")[0] for text in said if text.startswith("training")] == [
            "training seed1/without_PGPG"]
        assert again.read("without PGPG", 1) == before

    def test_only_the_rows_and_seeds_asked_for(self, finished, tmp_path: Path):
        some = ablation(tmp_path)
        assert some.run(["without SSTN and parallel SPPE"], [2])
        assert [path.name for path in some.results.glob("*.json")] == ["without_SSTN_and_parallel_SPPE-2.json"]

    def test_is_stopped_and_goes_on(self, tmp_path: Path):
        budget, row = replace(TINY, base_iterations=3), "without SSTN and parallel SPPE"
        asked = iter(["none", "stop"])
        assert not ablation(tmp_path, budget, action=lambda: next(asked)).run([row])
        assert (tmp_path / "work" / "seed1" / "base" / "net_iter_2.solverstate").exists()
        said: list[str] = []
        assert ablation(tmp_path, budget, said).run([row])
        assert "training seed1/base: 3 iterations, resumed at 2" in said

    def test_results_of_other_settings_are_refused(self, finished):
        folder, _ = finished
        other = ablation(folder, replace(TINY, iterations=2))
        with pytest.raises(FileError, match=r"was computed with other settings \(iterations 1, now 2\)"):
            other.run()

    @pytest.mark.parametrize(("text", "says"), [
        ("{}", "not a result of the ablation"),
        ("[", "JSON"),
        ('{"format": "rmpe-ablation", "version": 1, "row": "full", "seed": 1}', "a different row or seed"),
    ])
    def test_files_that_are_no_results(self, tmp_path: Path, text, says):
        one = ablation(tmp_path)
        one.results.mkdir(parents=True)
        one.path("without PGPG", 1).write_text(text)
        with pytest.raises(FileError, match=says):
            one.run(["without PGPG"])

    def test_rows_and_seeds_that_do_not_exist(self, tmp_path: Path):
        with pytest.raises(RmpeError, match="row 'best' is not one of 'full', "):
            ablation(tmp_path).run(["best"])
        with pytest.raises(RmpeError, match="seed 0 is less than 1"):
            ablation(tmp_path).run(None, [0])


class TestDesign:
    def test_every_row_but_those_of_others_is_in_the_papers_table(self):
        assert set(ROWS) <= {row.method for row in TABLE_3.rows if row.ours}

    def test_every_budget_has_at_least_three_seeds(self):
        assert min(budget.seeds for budget in BUDGETS.values()) >= 3
        assert BUDGETS["full"].pictures == 300

    @pytest.mark.parametrize(("row", "parts", "boxes"), [
        ("full", "_sstn_parallel", "PoseGuidedBoxes"),
        ("without SSTN and parallel SPPE", "", "PoseGuidedBoxes"),
        ("without parallel SPPE", "_sstn", "PoseGuidedBoxes"),
        ("without PGPG", "_sstn_parallel", "TrueBoxes"),
        ("random jittering instead of PGPG", "_sstn_parallel", "JitteredBoxes"),
    ])
    def test_a_row_lacks_what_its_name_says(self, finished, row, parts, boxes):
        one = ablation(finished[0])
        assert TRAININGS[row].parts == parts
        assert type(one._sampler(TRAININGS[row].boxes)).__name__ == boxes

    def test_training_sees_other_pictures_than_judging(self):
        worlds = {module.PGPG_WORLD, module.WORLD, *range(1, max(b.seeds for b in BUDGETS.values()) + 1)}
        assert len(worlds) == 2 + max(b.seeds for b in BUDGETS.values())


class TestJudge:
    def test_the_shipped_networks_get_what_reproduce_demo_gives(self, tmp_path: Path, capsys):
        test_set = SyntheticTestSet(module.WORLD, 6, get_recipe("demo-test"))
        network = load_pose_network(*demo_model("pose"), de_transform=DE_TRANSFORM)
        persons, poses = test_set.evaluate(network, test_set.detect(load_detector(*demo_model("detector"))))
        oracle, _ = test_set.evaluate(network, test_set.true_boxes())
        assert main(["reproduce", "demo", "--pictures", "6", "--output", str(tmp_path)]) == 0
        table = capsys.readouterr().out
        for name, ap in (("detected boxes  ", persons), ("detected boxes, without pose NMS", poses),
                         ("true boxes  ", oracle)):
            line = next(line for line in table.splitlines() if line.startswith(name))
            assert line.split()[-8:] == [f"{ap[column]:.1f}" for column in MPII_COLUMNS]


def results(**totals) -> list[Result]:
    """Results with these Totals, seed by seed; each other column is the Total plus its place."""
    return [Result(row, seed, {c: total + k for k, c in enumerate(MPII_COLUMNS[:-1], 1)} | {"Total": total})
            for row, values in totals.items() for seed, total in enumerate(values, 1)]


class TestTable:
    made = results(**{"full": [60.0, 62.0, 64.0], "without PGPG": [50.0, 51.0, 55.0], "oracle boxes": [63.0, 65, 67],
                      "without pose NMS": [70.0, 71, 72]})

    def test_has_the_papers_numbers_the_mean_and_the_spread(self):
        lines = ablation_table(self.made, BUDGETS["full"]).splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("without PGPG"))
        assert lines[at].split()[-8:] == ["82.8", "81.0", "77.5", "68.2", "74.6", "66.8", "60.1", "73.0"]
        assert lines[at + 1].split()[-8:] == ["53.0", "54.0", "55.0", "56.0", "57.0", "58.0", "59.0", "52.0"]
        assert lines[at + 2].split()[-8:] == ["2.5"] * 8
        assert "n=3" in lines[at + 1]

    def test_says_what_is_missing(self):
        lines = ablation_table(self.made, BUDGETS["full"]).splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith("random jittering"))
        assert lines[at + 1].strip() == "ours: no result yet"

    @pytest.mark.parametrize(("row", "says"), [
        ("without PGPG", "-7.8 |  -10.0  as in the paper"),
        ("without pose NMS", "-5.1 |   +9.0  not as in the paper"),
        ("oracle boxes", "+3.4 |   +3.0  within the spread of the seeds: no difference shown"),
    ])
    def test_says_whether_an_effect_shows(self, row, says):
        line = next(line for line in ablation_table(self.made, BUDGETS["full"]).splitlines()
                    if line.startswith(f"  {row} "))
        assert line.endswith(says)

    def test_one_seed_shows_nothing(self):
        table = ablation_table([r for r in self.made if r.seed == 1], BUDGETS["full"])
        assert table.count("fewer than 3 seeds: nothing shown") == 3
        assert "as in the paper" not in table

    def test_without_the_full_row_there_is_no_difference(self):
        table = ablation_table([r for r in self.made if r.row != "full"], BUDGETS["full"])
        assert 'The row "full" has no result yet' in table

    def test_the_figure_is_a_picture_of_the_results(self):
        one, other = ablation_figure(self.made, BUDGETS["full"]), ablation_figure(self.made[:3], BUDGETS["full"])
        assert cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) is not None
        assert one != other

    def test_is_written_beside_the_results(self, finished):
        one = ablation(finished[0])
        table = write_ablation(one)
        assert (one.results / "table.txt").read_text() == table + "\n"
        assert (one.results / "figure.png").read_bytes().startswith(b"\x89PNG")
        assert by_row(one.found()).keys() == set(ROWS)

    def test_without_any_result(self, tmp_path: Path):
        with pytest.raises(RmpeError, match="has no results yet"):
            write_ablation(ablation(tmp_path))


@pytest.mark.parametrize("name", ["quick", "small"])
def test_the_results_in_the_repository_make_its_table(name: str, tmp_path: Path):
    """Fails when a network or a budget has changed since: the results are then those of something else."""
    one = Ablation(BUDGETS[name], tmp_path, ROOT / "benchmarks" / "ablation", Progress(print, lambda: "none"))
    found = one.found()
    assert len(found) == len(ROWS) * 3
    assert (one.results / "table.txt").read_text() == ablation_table(found, one.budget) + "\n"


def test_command(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setitem(BUDGETS, "quick", replace(TINY, name="quick", seeds=1))
    code = main(["reproduce", "ablation", "--quick", "--output", str(tmp_path / "work"), "--results",
                 str(tmp_path / "results"), "--row", "without SSTN and parallel SPPE"])
    out, err = capsys.readouterr()
    assert code == 0
    assert "ours, n=1" in out
    assert "training seed1/base" in err
    assert (tmp_path / "results" / "quick" / "table.txt").exists()
