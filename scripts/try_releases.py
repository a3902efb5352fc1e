"""Try the package with the lowest and with the newest releases that its bounds allow; to be run weekly.

Makes an environment for each, runs the test of Celery's insides, the unit tests and a few workflows in real workers,
and prints a table. Ends with 1 if anything fails; the logs stay in the folder that it names.

    python scripts/try_releases.py [lowest] [newest]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("lowest", "newest")
#: One after the other, the quickest first.
SUITES = {
    "insides": ["tests/unit/worker/test_celery_insides.py"],
    "unit": ["tests/unit"],
    "workers": ["tests/integration/worker/test_embedded.py", "tests/acceptance/worker/test_worker_runs.py"],
}
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_-]+)(?P<extra>\[\w+\])?>=(?P<lowest>[\w.]+)")


def read_requirements() -> list[re.Match[str]]:
    """Return what pyproject.toml says about each dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [REQUIREMENT.match(line) for line in project["dependencies"]]
    if None in found:
        sys.exit(f"a dependency in pyproject.toml has no lower bound: {project['dependencies']}")
    return [match for match in found if match is not None]


def run(command: list[str], log: Path) -> bool:
    """Return whether the command succeeds; its output goes to the log."""
    environment = {**os.environ, "WORKFLOW_ENGINE_REQUIRE_SERVICES": "1"}
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(  # noqa: S603 - commands of our own
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    return done.returncode == 0


def install(side: str, folder: Path) -> Path | None:
    """Return the Python of a new environment; None if the releases cannot be installed together."""
    python = folder / side / "bin" / "python"
    pins = [f"{match['name']}{match['extra'] or ''}=={match['lowest']}" for match in read_requirements()]
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    commands = {
        "make": [sys.executable, "-m", "venv", str(folder / side)],
        "install": [*pip, "--editable", f"{ROOT}[test]", *(pins if side == "lowest" else [])],
    }
    done = all(run(command, folder / f"{side}-{name}.log") for name, command in commands.items())
    return python if done else None


def try_side(side: str, folder: Path) -> dict[str, str]:
    """Return what came of each suite with these releases."""
    python = install(side, folder)
    if python is None:
        return {"install": f"failed, see {side}-install.log"}
    results = {match["name"]: read_version(python, match["name"]) for match in read_requirements()}
    for suite, files in SUITES.items():
        log = folder / f"{side}-{suite}.log"
        fine = run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *files], log)
        last = log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
        results[suite] = last.strip("= ") if fine else f"failed, see {log.name}: {last}"
    return results


def read_version(python: Path, name: str) -> str:
    """Return which release of a package the environment has."""
    command = [str(python), "-c", f"from importlib.metadata import version; print(version({name!r}))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - as above


def main() -> int:
    """Try what the command line names, both by default; return 1 if anything failed."""
    sides = sys.argv[1:] or list(SIDES)
    if not set(sides) <= set(SIDES):
        sys.exit(__doc__)
    folder = Path(tempfile.mkdtemp(prefix="try-releases-"))
    print(f"environments and logs: {folder}", flush=True)  # noqa: T201 - a program
    results = {side: try_side(side, folder) for side in sides}
    rows = dict.fromkeys(row for found in results.values() for row in found)
    for row in ["", *rows]:
        cells = [found.get(row, "") if row else side for side, found in results.items()]
        print(f"{row:<20}", *(f"{cell:<30}" for cell in cells))  # noqa: T201 - as above
    return int(any("failed" in cell for found in results.values() for cell in found.values()))


if __name__ == "__main__":
    sys.exit(main())
