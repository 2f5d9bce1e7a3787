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
    """Return `name==version` of the lower bound of every dependency, those of the extras too.

    Tools for development are pinned as well: left open, they let the resolver try hundreds of their versions.

    Raises:
        ValueError: a dependency has no lower bound.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project.get("optional-dependencies", {}).values()
    pins: dict[str, None] = {}
    for dependency in [*project["dependencies"], *(each for extra in optional for each in extra)]:
        bound = LOWEST.match(dependency)
        if bound is None:
            raise ValueError(f"{dependency} has no lower bound")
        if bound[1] not in LEFT_OPEN:
            pins[f"{bound[1]}=={bound[2]}"] = None
    return list(pins)


if __name__ == "__main__":
    sys.stdout.write("\n".join(oldest(Path(__file__).parents[1] / "pyproject.toml")) + "\n")
