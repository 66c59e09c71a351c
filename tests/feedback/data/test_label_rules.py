import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import UsageError
from counterpoint.feedback.data.rules import parse

TABLE = pl.DataFrame(
    {
        "play": [1000.0, 5000.0, 12000.0, 30000.0],
        "duration": [10.0, 5.0, 10.0, 60.0],
        "like": [0.0, 1.0, 1.0, 0.0],
        "kind": ["ad", "clip", "clip", "live"],
        "marital status": [0.0, 2.0, 0.0, 1.0],
    }
)


def labels(text, **fitted):
    rule = parse("label", text)
    values = {quantile.text: fitted["quantile"] for quantile in rule.quantiles}
    return TABLE.select(rule.expression(values).alias("label"))["label"].to_list()


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("like == 1", [False, True, True, False]),
        ("play >= duration * 1000", [False, True, True, False]),
        ("play / 1000 - duration > -1", [False, True, True, False]),
        ("not like == 1", [True, False, False, True]),
        ("like == 1 and play > 5000", [False, False, True, False]),
        ("like == 1 or kind == 'ad'", [True, True, True, False]),
        ("'clip' != kind", [True, False, False, True]),
        ("1000 < play <= 12000", [False, True, True, False]),
        ("column('marital status') == 0", [True, False, True, False]),
        ("-like < 0", [False, True, True, False]),
        ("(like + like) * 2 == 4", [False, True, True, False]),
    ],
)
def test_a_rule_says_which_rows_have_the_label(rule, wanted):
    assert labels(rule) == wanted


def test_a_quantile_is_a_number_once_it_is_fitted():
    rule = parse("long", "play > quantile(play, 0.75)")
    assert [(each.text, each.share) for each in rule.quantiles] == [("quantile(play, 0.75)", 0.75)]
    assert labels("play > quantile(play, 0.75)", quantile=11999.0) == [False, False, True, True]
    assert rule.columns == ("play",)


def test_a_quantile_may_be_of_arithmetic():
    rule = parse("deep", "play / duration > quantile(play / duration, 0.5)")
    assert rule.numbers == ("play", "duration")
    taken = TABLE.select(rule.quantiles[0].of.alias("taken"))["taken"].to_list()
    assert taken == [100.0, 1000.0, 1200.0, 500.0]


def test_a_rule_names_the_columns_that_it_takes():
    rule = parse("label", "play > 3 and kind == 'ad' and play < duration")
    assert (rule.numbers, rule.texts) == (("play", "duration"), ("kind",))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("play >", "invalid syntax"),
        ("play", "play is neither true nor false"),
        ("play + 1", "play + 1 is neither true nor false"),
        ("play > 'long'", "the text 'long' is compared by == or != alone"),
        ("'a' == 'b'", "the text 'a' is compared with no column"),
        ("play in (1, 2)", "only < <= > >= == != compare"),
        ("play ** 2 > 1", "play ** 2 is no number"),
        ("abs(play) > 1", "abs(play) is no number"),
        ("play > quantile(play, 1.5)", "needs a number from 0 to 1, not 1.5"),
        ("play > quantile(play, like)", "needs a number from 0 to 1 after the comma"),
        ("play > quantile(quantile(play, 0.5), 0.5)", "a quantile of a quantile"),
        ("kind == 'ad' or kind > 3", "'kind' is compared with a text and taken for a number"),
        ("like == True", "True is no number"),
        ("", "invalid syntax"),
        ("__import__('os').system('true') == 0", "is no number"),
        ("play.real > 1", "play.real is no number"),
        ("(lambda: 1)() == 1", "is no number"),
        ("[play][0] > 1", "is no number"),
    ],
)
def test_what_does_not_parse_is_told_in_one_sentence(rule, reason):
    with pytest.raises(UsageError) as error:
        parse("like", rule)
    told = str(error.value)
    assert told.startswith("labels.like: the rule ")
    assert reason in told
    assert told.count("does not parse") == 1
    assert "\n" not in told


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_a_usage_error(text):
    try:
        rule = parse("label", text)
    except UsageError:
        return
    assert rule.columns or rule.text.strip()


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30), st.integers(-50, 50))
def test_comparisons_agree_with_python(values, limit):
    table = pl.DataFrame({"x": [float(value) for value in values]})
    for sign, compare in (("<", int.__lt__), (">=", int.__ge__), ("==", int.__eq__), ("!=", int.__ne__)):
        rule = parse("label", f"x {sign} {limit}")
        found = table.select(rule.expression({}).alias("label"))["label"].to_list()
        assert found == [compare(value, limit) for value in values]
