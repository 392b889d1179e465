"""A small study whose names could break a page."""

import pytest
from drawn_study import DrawnStudy
from names import EXPERIMENTS, NAMES


@pytest.fixture(scope="module", autouse=True)
def shared_servers(sharing):
    """The programs that build pages are forks of processes that have imported their packages."""
    with sharing():
        yield


@pytest.fixture(scope="session")
def study(tmp_path_factory, sharing):
    study = DrawnStudy(
        tmp_path_factory.mktemp("pages") / "study", NAMES, 180, 4, EXPERIMENTS, dim=16
    )
    # This comes before the fixture of the module.
    with sharing():
        study.evaluate()
        study.check_health()
        study.score_rejection()
        study.answer()
        study.compare()
        study.thumbnails()
        study.map(*EXPERIMENTS)
        for name in EXPERIMENTS:
            study.report(name)
        study.index()
    return study


@pytest.fixture(scope="session")
def report(study):
    return study.folder / "experiments" / "EPSHN_base+1dBN" / "report.html"


@pytest.fixture(scope="session")
def index(study):
    return study.folder / "comparison" / "index.html"
