"""Workflows drawn with boxes and lines. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP: Final = 3
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES: Final = {
    _UP | _DOWN: "│",
    _LEFT | _RIGHT: "─",
    _DOWN | _RIGHT: "┌",
    _DOWN | _LEFT: "┐",
    _UP | _RIGHT: "└",
    _UP | _LEFT: "┘",
    _UP | _DOWN | _LEFT: "┤",
    _UP | _DOWN | _RIGHT: "├",
    _UP | _LEFT | _RIGHT: "┴",
    _DOWN | _LEFT | _RIGHT: "┬",
    _UP | _DOWN | _LEFT | _RIGHT: "┼",
}


@dataclass(frozen=True, slots=True)
class _Box:
    """Lines of text in a frame: where its left edge is, and what it says."""

    left: int
    lines: tuple[str, ...]

    @property
    def width(self) -> int:
        return _framed_width(self.lines)

    @property
    def port(self) -> int:
        """The column in which lines enter and leave it."""
        return self.left + self.width // 2


def draw_groups(groups: Sequence[Sequence[str]], *, width: int = 80) -> list[str]:
    """Return lines that show groups of stages below each other, joined by what flows between them.

    A group that is wider than ``width`` is drawn as a list of its stages in one tall box.
    """
    rows = [_fit(group, width) for group in groups]
    canvas = max((_row_width(row) for row in rows), default=0)
    placed = [_place(row, canvas) for row in rows]
    lines: list[str] = []
    for index, boxes in enumerate(placed):
        if index:
            lines.append(_connect(placed[index - 1], boxes))
        lines += _draw_boxes(boxes, has_input=index > 0, has_output=index < len(placed) - 1)
    return lines


def _fit(group: Sequence[str], width: int) -> list[tuple[str, ...]]:
    row: list[tuple[str, ...]] = [(label,) for label in group]
    return row if _row_width(row) <= width else [tuple(group)]


def _framed_width(lines: Sequence[str]) -> int:
    """Return the width of a box: odd, so that boxes below each other have their middles in one column."""
    return (max(map(len, lines)) + 4) | 1


def _row_width(row: Sequence[Sequence[str]]) -> int:
    return sum(map(_framed_width, row)) + _GAP * (len(row) - 1)


def _place(row: Sequence[tuple[str, ...]], canvas: int) -> list[_Box]:
    left = (canvas - _row_width(row)) // 2
    boxes = []
    for lines in row:
        boxes.append(_Box(left, lines))
        left += _framed_width(lines) + _GAP
    return boxes


def _draw_boxes(boxes: Sequence[_Box], *, has_input: bool, has_output: bool) -> list[str]:
    drawn = ["", *[""] * len(boxes[0].lines), ""]
    for box in boxes:
        port = box.port - box.left - 1
        frame = [
            "┌" + _edge(box.width - 2, port if has_input else None, "┴") + "┐",
            *(f"│ {line:<{box.width - 4}} │" for line in box.lines),
            "└" + _edge(box.width - 2, port if has_output else None, "┬") + "┘",
        ]
        drawn = [line.ljust(box.left) + part for line, part in zip(drawn, frame, strict=True)]
    return drawn


def _edge(length: int, port: int | None, sign: str) -> str:
    return "─" * length if port is None else "─" * port + sign + "─" * (length - port - 1)


def _connect(above: Sequence[_Box], below: Sequence[_Box]) -> str:
    """Return the line that joins each box above with each box below."""
    ups, downs = {box.port for box in above}, {box.port for box in below}
    left, right = min(ups | downs), max(ups | downs)
    line = " " * left
    for column in range(left, right + 1):
        sides = (_UP if column in ups else 0) | (_DOWN if column in downs else 0)
        sides |= (_LEFT if left < column else 0) | (_RIGHT if column < right else 0)
        line += _LINES[sides]
    return line
