"""Write the catalogue's data files in their one form: a record a line, without empty and derived fields.

Run it after editing a record by hand; `--check` only says which files would change.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "src" / "beholder" / "catalogue"
FILES = ("systems.json", "components.json", "mechanisms.json", "configs.json")
DERIVED = {"used_by"}


def canonical(records: Iterable[dict[str, Any]]) -> str:
    """The records as JSON text, one a line, without empty (null, [], {}, "") and derived fields."""
    lines = []
    for record in records:
        kept = {
            field: value
            for field, value in record.items()
            if field not in DERIVED and (value or isinstance(value, bool | int))
        }
        lines.append(json.dumps(kept, ensure_ascii=False))
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main() -> int:
    """Rewrite what is not in its one form; with --check write nothing and return 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    changed = []
    for name in FILES:
        path = DATA / name
        text = path.read_text(encoding="utf-8")
        wanted = canonical(json.loads(text))
        if wanted != text:
            changed.append(name)
            if not check:
                path.write_text(wanted, encoding="utf-8")
    for name in changed:
        print(f"{name} {'is not in its one form' if check else 'rewritten'}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
