"""Print the figures of the package's structure: ``python scripts/house_figures.py [CHECKOUT]``, by default of this one.

Code lines are lines with code on them: no blank lines, comments or docstrings; the recorded migrations do not count.
The core is the package without the command line, the demo and the testing kit. A place of a rule is a file that states
it, found by the expressions of ``PLACES``.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import sys
import tokenize
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = "workflow_engine"
EDGES: Final = ("cli", "demo", "testing")
NO_CODE: Final = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)
FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
WITH_DOCSTRING: Final = (ast.Module, ast.ClassDef, *FUNCTIONS)
MAX_MODULES: Final = 16
#: What is counted, and how a file that states it is recognised.
PLACES: Final = {
    "an option of a stage (max_crashes)": r"\bmax_crashes\b",
    "a kind of wait (runs)": r"\bawaits_runs\b|\bUntilRuns\b|\buntil_runs\b|['\"]runs['\"]",
    "the admission rule (a paused run)": r"paused_at\b[^\n]*(?:is None|is_\(None\)|IS NULL)",
}


def modules(root: Path) -> list[Path]:
    """Return the modules of the package, without the recorded migrations."""
    return [path for path in sorted((root / PACKAGE).rglob("*.py")) if "migrations" not in path.parts]


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that have code on them."""
    tree = ast.parse(source)
    prose = {
        line
        for node in ast.walk(tree)
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {line for t in tokens if t.type not in NO_CODE for line in range(t.start[0], t.end[0] + 1)}
    return code - prose


def body_lengths(tree: ast.Module) -> Iterator[int]:
    """Yield the number of lines of every function's body, without its docstring."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def imports_at_run_time(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Yield the modules of the package that a module imports when it is imported itself."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in known else node.module


def find_cycle(paths: dict[str, Path]) -> list[str]:
    """Return the modules of a circle of imports; none where there is no circle."""
    graph = {name: set(imports_at_run_time(ast.parse(path.read_text()), set(paths))) for name, path in paths.items()}
    try:
        TopologicalSorter({name: found & set(paths) - {name} for name, found in graph.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def name_of(path: Path, root: Path) -> str:
    """Return the dotted name of a module."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def figures(root: Path) -> Iterator[str]:
    """Yield the figures of a checkout, line by line."""
    paths = modules(root)
    lines: defaultdict[str, list[int]] = defaultdict(list)
    for path in paths:
        parts = path.relative_to(root / PACKAGE).parts
        room = parts[0].removesuffix(".py")
        lines[room if len(parts) > 1 or room in EDGES else "(root)"].append(len(code_lines(path.read_text())))
    yield f"{'room':12} {'modules':>8} {'code lines':>11}"
    for room, counts in sorted(lines.items()):
        yield f"{room:12} {len(counts):8} {sum(counts):11,}"
    core = [counts for room, counts in lines.items() if room not in EDGES]
    yield f"{'core':12} {sum(map(len, core)):8} {sum(map(sum, core)):11,}"
    yield f"{'package':12} {len(paths):8} {sum(map(sum, lines.values())):11,}"
    lengths = sorted(length for path in paths for length in body_lengths(ast.parse(path.read_text())))
    p95 = lengths[int(0.95 * len(lengths))]
    yield f"\nfunctions: {len(lengths)}, median {statistics.median(lengths):g}, p95 {p95}, longest {lengths[-1]}"
    yield f"longest file: {max(len(path.read_text().splitlines()) for path in paths)} lines"
    crowded = {
        str(folder.relative_to(root)): n for folder, n in Counter(p.parent for p in paths).items() if n > MAX_MODULES
    }
    yield f"directories with more than 16 modules: {crowded or 'none'}"
    cycle = find_cycle({name_of(path, root): path for path in paths})
    yield f"import cycles: {' -> '.join(cycle) or 'none'}"
    for what, pattern in PLACES.items():
        found = [path for path in paths if re.search(pattern, path.read_text())]
        yield f"files that state {what}: {len(found)}"


if __name__ == "__main__":
    checkout = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    sys.stdout.writelines(f"{line}\n" for line in figures(checkout))
