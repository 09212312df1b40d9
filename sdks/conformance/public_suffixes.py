#!/usr/bin/env python3
"""Makes the compact list of public suffixes that every SDK ships, from Mozilla's list (Debian's package publicsuffix).

    public_suffixes.py LIST FOLDER…

Writes FOLDER/public_suffixes.txt: comments begin with //, and each other line is a rule in ASCII. Needs the package idna.
"""

import pathlib
import re
import sys

import idna


def main() -> None:
    text = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    # Debian builds the list of the date that its comment names; older ones have no VERSION line.
    version = re.search(r"^// VERSION: (\S+)", text, re.M)
    date = version.group(1) if version else "2023-02-09 (Debian's publicsuffix 20230209.2326)"
    rules = set()
    for line in text.splitlines():
        rule = line.split()[0] if line.strip() else ""
        if rule and not rule.startswith("//"):
            rules.add(ascii_form(rule))
    head = (
        f"// The Public Suffix List of {date}, without its comments and in ASCII. https://publicsuffix.org\n"
        "// This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0. If a copy of the MPL was not\n"
        "// distributed with this file, You can obtain one at https://mozilla.org/MPL/2.0/.\n"
    )
    for folder in sys.argv[2:]:
        path = pathlib.Path(folder) / "public_suffixes.txt"
        path.write_text(head + "\n".join(sorted(rules)) + "\n", encoding="ascii")


def ascii_form(rule: str) -> str:
    prefix = "!" if rule.startswith("!") else "*." if rule.startswith("*.") else ""
    name = rule[len(prefix) :]
    return prefix + (name if name.isascii() else idna.encode(name, uts46=True).decode())


main()
