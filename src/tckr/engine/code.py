"""Name the code that computes: this package, and the libraries behind its models."""

import hashlib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tckr

# With other versions of these the same code may compute other numbers.
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "numpy", "pillow")


@cache
def code_state() -> str:
    """Return a hash of the package's files and of the versions of the libraries behind its models."""
    digest = hashlib.sha256()
    package = Path(tckr.__file__).parent
    for file in sorted(one for kind in ("*.py", "*.html") for one in package.rglob(kind)):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            digest.update(f"{library} {version(library)}\0".encode())
    return digest.hexdigest()
