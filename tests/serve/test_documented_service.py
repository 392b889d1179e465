"""docs/service.md says what the service does: its commands run, its numbers are the program's."""

import re
import shutil
import subprocess
from pathlib import Path

from tiny_service import photographs_of

from dmlstudy.evaluate.rejection_scores import WANTED
from dmlstudy.use.service import doubts, drift, heat, shelf
from dmlstudy.use.service.limits import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def test_documented_requests(serve, run, tmp_path):
    """Would catch a command that the API does not take."""
    service = serve()
    for name, photo in zip(("photo", "a", "b", "c"), photographs_of(run, 4), strict=False):
        shutil.copy(photo, tmp_path / f"{name}.jpg")
    commands = [line for line in PAGE.splitlines() if line.startswith("curl ")]
    described = set(service.get("/openapi.json").json()["paths"])
    asked = {re.search(r":8000(/[\w/]+)", command).group(1) for command in commands}
    asked = {re.sub(r"/\d+$", "", path) for path in asked}
    assert asked == {re.sub(r"/\{.*", "", path) for path in described}
    for command in commands:
        command = command.replace("http://127.0.0.1:8000", service.address)
        command = command.replace(
            "curl ", "curl --silent --show-error --fail-with-body --noproxy '*' "
        )
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
    assert (tmp_path / "small.jpg").read_bytes().startswith(b"\xff\xd8")
    assert service.classes()["Blue Tit"] == 3
    assert service.classes()["Great Tit"] == 5


def test_documented_limits():
    """Would catch a limit on the page that is not the program's."""
    table = dict(re.findall(r"^\| `--([\w-]+)` \| .* \| ([\d,]+) \|$", PAGE, re.MULTILINE))
    limits = Limits()
    for name, value in table.items():
        assert getattr(limits, name.replace("-", "_")) == int(value.replace(",", "")), name
    assert len(table) == 8
    assert f"{limits.silence:g} s without a byte, or {limits.upload:g} s in all" in PAGE
    assert f"newest {shelf.UNDOABLE} changes" in PAGE
    assert f"until {shelf.UNDOABLE} more changes" in PAGE
    assert f"most {heat.MOST} heat maps" in PAGE
    assert f"probability below {doubts.SURE:g}" in PAGE
    assert f"newest {drift.NEWEST} answers are compared with the {drift.BEFORE:,} before" in PAGE
    assert f"at least {drift.LEAST} with {drift.LEAST}" in PAGE
    assert f"warns below p = {drift.LEVEL:g}" in PAGE
    *first, last = (f"{100 * share:g}" for share in WANTED)
    assert f"{', '.join(first)} and {last} %" in PAGE
