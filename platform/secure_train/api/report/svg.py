"""SVG elements as escaped markup. Colours come from the page's style sheet, through classes."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

Value = str | float


def tag(name: str, *children: str, **attributes: Value) -> Markup:
    """Write an element. ``class_`` is the attribute ``class``; other underscores are hyphens.

    Numbers are rounded to hundredths. Children that are no Markup are text, and escaped.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(_attribute(key), _plain(value)) for key, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, Markup("").join(children))


def picture(width: float, height: float, label: str, children: Iterable[str], **attributes: Value) -> Markup:
    """Write a whole drawing that scales with its place. ``label`` is what a screen reader says."""
    box = f"0 0 {_plain(width)} {_plain(height)}"
    return tag(
        "svg",
        *children,
        **{"viewBox": box, "role": "img", "aria_label": label, **attributes},
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Write a straight line of a class."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def text(x: float, y: float, content: str, kind: str, anchor: str = "middle") -> Markup:
    """Write text at its baseline."""
    return tag("text", content, x=x, y=y, class_=kind, text_anchor=anchor)


def path(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    """Write a line through points."""
    return tag("polyline", points=" ".join(f"{_plain(x)},{_plain(y)}" for x, y in points), class_=kind)


def hint(content: str) -> Markup:
    """Write what appears when the pointer rests on the element around it."""
    return tag("title", content)


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _plain(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
