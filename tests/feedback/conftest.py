import pytest

import counterpoint
from counterpoint.simulation.views.log import simulate
from small_feedback import SETTINGS as SMALL


@pytest.fixture(scope="session")
def views(tmp_path_factory):
    """A simulated log of about 3,000 views by 60 users of 40 videos, with four labels."""
    folder = tmp_path_factory.mktemp("views") / "log"
    simulate(folder, users=60, videos=40, rows=3_000, tasks=4, seed=3, heterogeneity=0.3)
    return folder


@pytest.fixture(scope="session")
def store(views, tmp_path_factory):
    """The prepared store of that log."""
    out = tmp_path_factory.mktemp("views") / "store"
    return counterpoint.prepare(views, recipe="gradcraft", settings=SMALL, out=out)


@pytest.fixture(scope="session")
def trained(store, tmp_path_factory):
    """A run of GradCraft on it, evaluated."""
    out = tmp_path_factory.mktemp("runs") / "gradcraft"
    settings = [*SMALL, "training.diagnose_every=5"]
    run = counterpoint.train("gradcraft", data=store.path, out=out, settings=settings)
    counterpoint.evaluate(run.path)
    return run
