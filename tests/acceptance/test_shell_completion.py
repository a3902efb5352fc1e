"""The completion of docs/cli.md, in the shells themselves; those that are not installed are left out, bash is needed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: What a shell is told to run after the documented line, so that it completes ``workflow-engine runs re``.
ASK = {
    "bash": "COMP_WORDS=(workflow-engine runs re); COMP_CWORD=2; _workflow_engine_completion workflow-engine; "
    'printf "%s\\n" "${COMPREPLY[@]}"',
    "fish": "complete --do-complete 'workflow-engine runs re'",
    # zsh completes on a terminal only; this is what its function asks for.
    "zsh": 'COMP_WORDS="workflow-engine runs re" COMP_CWORD=2 _WORKFLOW_ENGINE_COMPLETE=zsh_complete workflow-engine; '
    "whence -w _workflow_engine_completion",
}
BEFORE = {"zsh": "autoload -Uz compinit; compinit -u; "}


def documented_line(shell: str) -> str:
    row = re.search(rf"^\| {shell}\b.*\| `(.*)` \|$", (ROOT / "docs" / "cli.md").read_text("utf-8"), re.MULTILINE)
    assert row is not None
    return row[1].replace(r"\|", "|")


@pytest.mark.parametrize("shell", ASK)
def test_the_documented_line_makes_a_shell_complete_commands(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None and os.environ.get("WORKFLOW_ENGINE_REQUIRE_SERVICES") != "1":
        pytest.skip(f"{shell} is not installed")
    script = f"{BEFORE.get(shell, '')}{documented_line(shell)}\n{ASK[shell]}"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    finished = subprocess.run(
        [shell, "-c", script],
        env={"PATH": path, "HOME": str(tmp_path), "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    words = set(finished.stdout.split())
    assert {"rerun", "resume"} <= words, finished.stderr
    assert shell != "zsh" or "function" in words
