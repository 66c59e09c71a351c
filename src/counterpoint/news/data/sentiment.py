"""The sentiment of titles: its names, and VADER's (Hutto and Gilbert 2014) where the data tells none."""

from collections.abc import Callable

from counterpoint.errors import UsageError

SENTIMENTS = ("negative", "neutral", "positive")
_THRESHOLD = 0.05


def sentiment_of(score: float) -> str:
    """Return the class of a score in [-1, 1] by VADER's published thresholds: neutral within ±0.05."""
    return SENTIMENTS[1 + (score >= _THRESHOLD) - (score <= -_THRESHOLD)]


def vader() -> Callable[[str], float]:
    """Return the function from an English text to VADER's compound score in [-1, 1].

    Raises:
        UsageError: vaderSentiment is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        raise UsageError(
            "sentiment 'vader' needs vaderSentiment; install it with pip install 'counterpoint[sentiment]'."
        ) from None
    analyser = SentimentIntensityAnalyzer()

    def compound(text: str) -> float:
        return float(analyser.polarity_scores(text)["compound"])

    return compound
