"""A virtual environment for the Python side of a bench."""

import os
import subprocess
import sys
import venv
from pathlib import Path


def enter(name: str, requirements: list[str], **variables: str) -> None:
    """Goes on in the virtual environment ~/.cache/NAME, made when absent, with `variables` in the environment."""
    home = Path.home() / ".cache" / name
    python = home / "bin" / "python"
    if Path(sys.prefix).resolve() == home.resolve():
        return
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True, stdout=sys.stderr)
        (home / "ready").touch()
    os.execve(python, [str(python), *sys.argv], {**os.environ, **variables})
