"""What the environment is made of: every installed package with its version and its licence.

    python workflow/supply.py licences [FILE]   a table in Markdown, of the packages that constraints.txt pins
    python workflow/supply.py sbom [FILE]       a CycloneDX 1.6 bill of materials, of all of them

Without FILE, to the standard output. Both come from what the installed packages say of themselves.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
OWN = "mlic"
HEADER = """# Licences of the dependencies

Of every package that `constraints.txt` pins, as the package itself states it; made by `make licences`. What stands in
no licence field, an SPDX expression, a classifier or a short text, is in the package's own files.

| Package | Version | Licence |
| --- | --- | --- |
"""


class Package(NamedTuple):
    """A package as it is installed; `licence` is "" where it states none."""

    name: str
    version: str
    licence: str


def normal(name: str) -> str:
    """A package's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(found: Iterable[Distribution] | None = None) -> list[Package]:
    """Every installed package but this one, once, by name."""
    packages = {normal(one.metadata["Name"]): one for one in (distributions() if found is None else found)}
    return [Package(name, one.version, licence(one)) for name, one in sorted(packages.items()) if name != OWN]


def licence(package: Distribution) -> str:
    """The SPDX expression where there is one, else the classifiers, else the first line of the licence field."""
    given = package.metadata
    if expression := given.get("License-Expression"):
        return expression
    classes = [text.split(" :: ")[-1] for text in given.get_all("Classifier") or [] if text.startswith("License ::")]
    named = [text for text in classes if text != "OSI Approved"]
    first = (given.get("License") or "").strip().partition("\n")[0]
    return ", ".join(named) or (first if len(first) < 60 else "")


def pinned(text: str) -> set[str]:
    """The names in a constraints file."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return {normal(line.partition("==")[0]) for line in lines if "==" in line}


def licences(packages: Iterable[Package]) -> str:
    """The table."""
    cells = [(name, version, stated or "not stated") for name, version, stated in packages]
    return HEADER + "".join(f"| {' | '.join(text.replace('|', '/') for text in row)} |\n" for row in cells)


def sbom(packages: Iterable[Package]) -> str:
    """CycloneDX in JSON, without a time or a serial number, so that the same environment gives the same bytes."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "licenses": [{"license": {"name": stated}}] if stated else [],
            "purl": f"pkg:pypi/{name}@{version}",
        }
        for name, version, stated in packages
    ]
    root = {"type": "application", "bom-ref": OWN, "name": OWN}
    depends = [{"ref": OWN, "dependsOn": [one["bom-ref"] for one in components]}]
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": root}}
    return json.dumps(bill | {"components": components, "dependencies": depends}, indent=1) + "\n"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["licences", "sbom"])
    parser.add_argument("file", nargs="?", type=Path)
    chosen = parser.parse_args(arguments)
    packages = installed()
    if chosen.what == "licences":
        pins = pinned((ROOT / "constraints.txt").read_text(encoding="utf-8"))
        text = licences(one for one in packages if one.name in pins)
    else:
        text = sbom(packages)
    if chosen.file:
        chosen.file.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
