"""What an error says to whoever can put it right."""

from counterpoint.errors import CounterpointError


def one_sentence(error: CounterpointError) -> str:
    """Return what an error says, if it is one line that says the remedy after the problem."""
    text = str(error)
    assert text.endswith("."), text
    assert "\n" not in text
    assert ". " not in text.replace("...", ""), text
    assert "Traceback" not in text
    return text
