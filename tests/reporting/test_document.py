import json
import re
from html.parser import HTMLParser

import pytest

from counterpoint.comparison.standing import standing
from counterpoint.errors import CounterpointError, UsageError
from counterpoint.reporting.document import write_report
from counterpoint.reporting.tables import results_table
from counterpoint.runs.ablation import Figure
from run_folders import evaluation, write_run

VOID = {"meta"}


class Balanced(HTMLParser):
    """Checks that every element is closed where it was opened; gathers the visible text."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.seen.append(data)


def report(runs, folder, **options):
    return write_report(runs, folder / "report.html", **options).read_text(encoding="utf-8")


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def warnings(page):
    return re.findall(r"<li>(.*?)</li>", "".join(re.findall(r'<ul class="alarm".*?</ul>', page)))


def test_a_run_gets_every_section(run, tmp_path):
    page = report([run], tmp_path)
    expected = [
        "Results, test",
        "Slices, test",
        "Losses",
        "Validation",
        "Gradients",
        "Data",
        "Recipe",
        "Runs",
    ]
    assert headings(page) == expected
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions[:8] == [
        *("click", "category", "entities"),
        *("auc", "mrr", "ndcg@5", "ndcg@10", "category/accuracy"),
    ]
    assert re.fullmatch(r"click and category\+entities: in conflict at \d+\.\d% of the steps", captions[8])
    assert captions[9:] == [
        "gradient norms",
        "weights of the gradients",
        "share of pairs in conflict, moving mean",
    ]
    assert page.count("<svg") == len(captions)


def test_the_page_is_well_formed_and_stands_alone(run, tmp_path):
    page = report([run], tmp_path)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    without_namespaces = re.sub(r'xmlns(:xlink)?="[^"]*"', "", page)
    assert not re.search(r"https?:|<script|<link|\bsrc=|@import|url\(", without_namespaces)
    # Charts share the document, so an id in two of them would make one refer to the other.
    assert not re.search(r'<svg.*?\sid="', page)


def test_everything_written_by_others_is_escaped(tmp_path):
    evil = "<b>&\"'"
    folder = write_run(
        tmp_path / "evil",
        steps=24,
        metrics={evil: 0.1},
        floors={evil: {evil: 0.2}},
        slices={evil: {"impressions": 1, evil: 0.5}},
        counts={evil: evil},
        warnings=[evil],
    )
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"name": evil, "machine": {evil: [evil]}}))
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": step, "losses": {evil: 1.0}}) + "\n" for step in (1, 2))
    )
    page = report([folder], tmp_path, title=evil)
    assert '<b>&"' not in page
    assert "<title>&lt;b&gt;&amp;&quot;&#x27;</title>" in page
    assert "a &lt;summary&gt; &amp; more" in page
    parser = Balanced()
    parser.feed(page)
    assert parser.seen.count(evil) >= 8


@pytest.mark.usefixtures("undrawn")
def test_a_model_below_a_floor_is_red_and_warned_about_once(tmp_path):
    sentence = "The model does not beat the content floor: auc 0.6000 against 0.6120."
    folder = write_run(tmp_path / "weak", steps=12, auc=0.60, warnings=["Entities are missing.", sentence])
    page = report([folder], tmp_path)
    assert warnings(page) == ["test: Entities are missing.", f"test: {sentence}"]
    assert '<td class="lost">0.6000' in page


@pytest.mark.usefixtures("undrawn")
def test_a_good_run_has_no_warnings(run, tmp_path):
    page = report([run], tmp_path)
    assert warnings(page) == []
    assert 'class="lost"' not in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("evaluation-test.json", {"Results, test", "Slices, test"}),
        ("metrics.jsonl", {"Losses", "Validation"}),
        ("balance.jsonl", {"Gradients"}),
        ("recipe.toml", {"Recipe"}),
        ("run.json", {"Runs"}),
    ],
)
def test_what_a_run_lacks_is_left_out(run, tmp_path, missing, gone):
    everything = set(headings(report([run], tmp_path)))
    (run / missing).unlink()
    assert everything - set(headings(report([run], tmp_path))) == gone


@pytest.mark.usefixtures("undrawn")
def test_seeds_are_averaged_and_recipes_stand_side_by_side(tmp_path):
    seeds = [write_run(tmp_path / f"mtrec-{seed}", seed=seed, steps=12) for seed in range(3)]
    alone = write_run(tmp_path / "bert", name="bert", method="single", steps=12)
    page = report([*seeds, alone], tmp_path)
    assert "4 runs of 2 recipes" in page
    assert '<th scope="row">mtrec (3 seeds)</th><td><b>0.6820<small>± 0.0020</small></b></td>' in page
    assert '<th scope="row">bert</th><td>0.6800<small>0.6770 to 0.6830</small></td>' in page
    assert "cold readers: bert" in page
    assert page.count("in conflict at") == 2 * 2  # one chart for each recipe: its title and its label
    assert "Recipes" in headings(page)


@pytest.mark.usefixtures("undrawn")
def test_runs_on_different_data_are_not_passed_off_as_comparable(tmp_path):
    small = write_run(tmp_path / "small", steps=12, counts={"impressions": 100})
    large = write_run(tmp_path / "large", steps=12, name="bert")
    assert "different numbers of impressions" in warnings(report([small, large], tmp_path))[0]


@pytest.mark.usefixtures("undrawn")
def test_every_split_has_its_own_table(run, tmp_path):
    (run / "evaluation-validation.json").write_text(json.dumps(evaluation(split="validation", auc=0.7)))
    assert headings(report([run], tmp_path))[:4] == [
        "Results, test",
        "Results, validation",
        "Slices, test",
        "Slices, validation",
    ]


@pytest.mark.usefixtures("undrawn")
def test_pairs_of_tasks_are_drawn_when_nothing_merged_was_recorded(run, tmp_path):
    lines = [{"step": step, "cosines": {"a|b": 0.1, "a|c": -0.1}} for step in range(1, 5)]
    (run / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = report([run], tmp_path)
    assert "a and b: in conflict at 0.0% of the steps" in page
    assert "a and c: in conflict at 100.0% of the steps" in page


def with_layers(folder):
    """Add norms by layer to every second step of a run's log."""
    lines = [json.loads(line) for line in (folder / "balance.jsonl").read_text().splitlines()]
    for line in lines[::2]:
        line["layer_norms"] = {"mlp.0|click": 1.0, "mlp.0|entities": 3.0, "words|click": 0.0}
        line["merged_layer_norms"] = {"mlp.0|click": 1.0, "mlp.0|entities": 1.5, "words|click": 0.0}
    (folder / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.usefixtures("undrawn")
def test_norms_by_layer_are_drawn_for_the_first_run_that_has_them(tmp_path):
    seeds = [write_run(tmp_path / f"mtrec-{seed}", seed=seed, steps=12) for seed in range(3)]
    with_layers(seeds[1])
    page = report(seeds, tmp_path)
    assert headings(page)[-4:] == ["Gradients by layer", "Data", "Recipe", "Runs"]
    section = re.search(r"<h2>Gradients by layer</h2>.*?</section>", page).group(0)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", section) == ["mlp.0", "mlp.0, as merged"]
    assert "<details>" not in section


@pytest.mark.usefixtures("undrawn")
def test_norms_by_layer_of_several_recipes_open_one_by_one(tmp_path):
    alone = write_run(tmp_path / "bert", name="bert", method="single", steps=12)
    several = [
        with_layers(write_run(tmp_path / name, name=name, method=name, steps=12))
        for name in ("mtrec", "pcgrad")
    ]
    page = report([alone, *several], tmp_path)
    section = re.search(r"<h2>Gradients by layer</h2>.*?</section>", page).group(0)
    assert re.findall(r"<summary>(.*?)</summary>", section) == ["mtrec", "pcgrad"]
    assert section.count("<figcaption>mlp.0</figcaption>") == 2
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []


@pytest.mark.slow
def test_an_ablation_s_figures_stand_before_the_usual_ones(tmp_path):
    runs = [
        write_run(tmp_path / f"{name}-{seed}", name=name, method=name, seed=seed, steps=24)
        for name in ("mtrec", "pcgrad")
        for seed in (0, 1)
    ]
    figures = [
        Figure(title="Fig. 4", draws="target loss"),
        Figure(title="Fig. 5", draws="validation", recipes=("pcgrad",)),
        Figure(title="Fig. 6", draws="sweep"),
    ]
    page = report(runs, tmp_path, figures=figures)
    assert [each for each in headings(page) if each.startswith("Fig")] == [
        "Fig. 4",
        "Fig. 5",
    ]  # nothing was swept
    fourth = re.search(r"<h2>Fig. 4</h2>.*?</section>", page).group(0)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", fourth) == ["click, moving mean, mean over seeds"]
    # A line for each recipe, its two seeds merged: the moving mean and what is behind it.
    assert len(re.findall(r'd="M[^"]*"[^>]*stroke="var', fourth)) == 4


def test_the_table_marks_the_best_and_the_optimum_apart():
    markup = results_table(standing({"mtrec": [evaluation()]}))
    assert '<tr class="optimum"><th scope="row">optimum (simulated)</th><td>0.7731</td>' in markup
    assert markup.count("<b>") == 4  # one for each ranking metric; the tasks' own have no rival


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(run, tmp_path):
    assert report([run], tmp_path) == report([run], tmp_path)


def test_a_report_of_nothing_is_a_wrong_use(tmp_path):
    with pytest.raises(UsageError, match="at least one run"):
        write_report([], tmp_path / "report.html")


@pytest.mark.usefixtures("undrawn")
def test_a_broken_log_leaves_the_old_page(run, tmp_path):
    old = report([run], tmp_path)
    with (run / "balance.jsonl").open("a") as log:
        log.write('{"step": 61, "norms"')
    with pytest.raises(CounterpointError, match=r"balance\.jsonl, line 61"):
        report([run], tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old


def test_simulated_data_is_called_so(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    facts = {"name": "mtrec", "seed": 0, "status": "done"}
    for simulated in (True, False):
        manifest = {"counts": {"articles": 3}, "simulated": simulated}
        (run / "run.json").write_text(json.dumps({**facts, "store": {"manifest": manifest}}))
        page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
        assert ("on simulated data" in page) is simulated
