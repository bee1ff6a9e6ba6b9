"""What the image is made of is written down by hash, is all that is needed, and nothing more."""

import json
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;]+)", re.MULTILINE)
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]


def _pins(name: str) -> dict[str, str]:
    text = (TOP / "operator" / name).read_text()
    return {canonicalize_name(package): version for package, version in PIN.findall(text)}


def _closure(wanted: list[str]) -> set[str]:
    """Everything that the named requirements bring along on this machine, by the metadata of what is installed."""
    pending, seen = [Requirement(each) for each in wanted], set[tuple[str, frozenset[str]]]()
    while pending:
        requirement = pending.pop()
        extras = frozenset(requirement.extras)
        key = (canonicalize_name(requirement.name), extras)
        if key in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(key)
        for each in distribution(requirement.name).requires or ():
            inner = Requirement(each)
            environments = [{"extra": extra} for extra in ("", *extras)]
            if inner.marker is None or any(inner.marker.evaluate(environment) for environment in environments):
                inner.marker = None
                pending.append(inner)
    return {name for name, _ in seen}


def test_every_pin_of_the_image_has_hashes_and_no_address() -> None:
    for name in ("runtime.lock", "build.lock"):
        text = (TOP / "operator" / name).read_text()
        entries = re.split(r"\n(?=\S)", text.strip())
        assert len(entries) == len(_pins(name))
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries), name
        assert "://" not in text and "index" not in text


def test_the_lock_is_what_the_project_needs_and_no_test_tool() -> None:
    locked, needed = _pins("runtime.lock"), _closure(PROJECT["dependencies"])
    assert needed <= locked.keys(), needed - locked.keys()
    others = set[str]()  # for another platform than this one
    for name in locked.keys() - needed:
        try:
            distribution(name)
        except PackageNotFoundError:
            others.add(name)
    assert locked.keys() == needed | others, locked.keys() - needed - others


def test_the_lock_and_the_constraints_pin_the_same_versions() -> None:
    constraints = _pins("constraints.txt")
    assert {name: constraints.get(name) for name in _pins("runtime.lock")} == _pins("runtime.lock")


def test_the_image_is_built_from_digest_and_hashes_only() -> None:
    dockerfile = (TOP / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", dockerfile, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["${BASE}", "${BASE}"]
    installs = re.findall(r"pip install [^\n]+", dockerfile)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs), installs


def test_the_bill_of_materials_names_every_locked_package_with_its_hashes() -> None:
    printed = subprocess.run([TOP / "operator" / "sbom"], capture_output=True, check=True).stdout
    bill = json.loads(printed)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == PROJECT["name"]
    named = {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}
    assert named == _pins("runtime.lock")
    assert all(each["purl"] and each["externalReferences"] for each in bill["components"])
