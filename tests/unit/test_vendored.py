"""Files of other projects that pages are made with: unchanged, and with their licence."""

import hashlib
import json
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[2] / "workflow/scripts/dmlstudy/pages/templates/vendor"


def test_vendored_files_are_those_of_their_packages():
    """Would catch a stylesheet that somebody edited in place, or one without version, licence and checksum."""
    packages = json.loads((VENDOR / "vendored.json").read_text())
    listed = {name for package in packages.values() for name in package["files"]}
    assert listed == {path.name for path in VENDOR.iterdir()} - {"vendored.json"}
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        texts = [(VENDOR / name).read_text(encoding="utf-8") for name in package["files"]]
        assert any(f"v{package['version']}" in text for text in texts)
        assert any(f"{package['license']} License" in text for text in texts)
        for name, file in package["files"].items():
            assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == file["sha256"]
