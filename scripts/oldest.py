"""Write the oldest versions that pyproject.toml allows as a constraints file for pip: `make test-oldest` installs them.

python scripts/oldest.py > oldest.txt
"""

import re
import sys
import tomllib
from pathlib import Path

# Its older CPU wheels lie on no index that pip asks by default; the one that is installed will do.
LEFT_OPEN = {"torch"}
LOWEST = re.compile(r"([\w-]+)(?:\[[^]]*\])?>=([\w.]+)")


def oldest(pyproject: Path) -> list[str]:
    """Return `name==version` of the lower bound of every dependency, the tools for development left out.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    pins = []
    for dependency in project["dependencies"]:
        bound = LOWEST.match(dependency)
        if bound is None:
            raise ValueError(f"{dependency} has no lower bound")
        if bound[1] not in LEFT_OPEN:
            pins.append(f"{bound[1]}=={bound[2]}")
    return pins


if __name__ == "__main__":
    sys.stdout.write("\n".join(oldest(Path(__file__).parents[1] / "pyproject.toml")) + "\n")
