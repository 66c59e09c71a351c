import io

from rich.console import Console

from counterpoint.comparison.standing import standing
from counterpoint.reporting.tables import terminal_table
from run_folders import evaluation


def printed(rows):
    console = Console(file=io.StringIO(), width=140, force_terminal=True, color_system="standard")
    console.print(terminal_table(rows))
    return console.file.getvalue()


def test_the_terminal_shows_four_digits_red_losers_and_bold_winners():
    output = printed(standing({"mtrec": [evaluation(auc=0.55)]}))
    assert "\x1b[31m0.5500\x1b[0m" in output
    assert "\x1b[1m0.3310\x1b[0m" in output
    assert len([line for line in output.splitlines() if line.strip()]) == 2 + 6


def test_seeds_and_six_metrics_fit_the_narrowest_terminal():
    console = Console(file=io.StringIO(), width=80)
    console.print(terminal_table(standing({"mtrec": [evaluation(seed) for seed in range(3)]})))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["mtrec", "(3", "seeds)", *["0.6820", "0.3330", "0.3680", "0.4300", "0.8750", "0.7940"]] in lines
    assert ["±0.0020"] * 6 in lines
    assert lines[:2] == [["category/", "entities/"], ["auc", "mrr", "ndcg@5", "ndcg@10", "accuracy", "f1"]]
    assert ["optimum", "(simulated)", "0.7731", "0.4306", "0.4710", "0.5292"] in lines


def test_long_names_of_metrics_are_broken_and_no_number_is_cut():
    console = Console(file=io.StringIO(), width=80)
    names = ("overall", "paraphrase/accuracy", "paraphrase/f1", "sentiment/accuracy", "similarity/pearson")
    metrics = {name: 0.1111 * (place + 1) for place, name in enumerate((*names, "similarity/spearman"))}
    console.print(terminal_table(standing({"minbert-final-seed0": [{"split": "test", "metrics": metrics}]})))
    lines = console.file.getvalue().splitlines()
    assert lines[0].split() == ["paraph", "paraph", "senti", "simila", "simila"]
    assert lines[1].split() == ["rase/", "rase/", "ment/", "rity/", "rity/"]
    assert lines[3].split()[1:] == ["0.1111", "0.2222", "0.3333", "0.4444", "0.5555", "0.6666"]


def test_names_in_the_terminal_are_text_not_markup():
    rows = standing({"[red]x[/red]": [evaluation(seed) for seed in range(2)]})
    assert "[red]x[/red] (2 seeds)" in printed(rows)
