import time

from counterpoint.cli import show


def test_work_that_begins_anew_is_timed_anew(monkeypatch, capsys):
    clock = iter([0.0, 0.0, 100.0, 1000.0, 1020.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with show.progress() as progress:
        for done in (0, 10, 0, 5):
            progress("training", done, 10)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "training: 10 of 10, about 0.0 min left",
        "training: 5 of 10, about 0.3 min left",
    ]
