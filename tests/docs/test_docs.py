"""What the documents say is still so: links, commands, named code and tests, and the diagram of packages."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from secure_train.cli.main import app

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("examples/**/*.md")]
)
ROOTS = ("secure", "audit", "platform")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED_CODE = re.compile(r"`((?:secure|platform|audit|tests|migrations|examples)/[\w./-]+)(?:::(\w+))?`")
INLINE = re.compile(r"`([^`\n]+)`")
by_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY))
)


def prose(text: str) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """The fragments that a document's headings have."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@by_document
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    for target in LINK.findall(prose(document.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = target.partition("#")
        linked = (document.parent / file).resolve() if file else document
        assert linked.exists(), target
        assert not fragment or fragment in anchors(linked.read_text("utf-8")), target


@by_document
def test_every_file_and_test_that_is_named_exists(document: Path) -> None:
    for path, test in NAMED_CODE.findall(document.read_text("utf-8")):
        named = REPOSITORY / path
        assert named.exists(), path
        assert not test or f"def {test}(" in named.read_text("utf-8"), f"{path}::{test}"


def commands(text: str) -> Iterator[list[str]]:
    """The command lines of secure-train in a document: in blocks of shell, and in running text."""
    lines = [
        line
        for language, block in FENCE.findall(text)
        if language in {"sh", "bash", "console"}
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += INLINE.findall(prose(text).replace("\n", " "))
    for line in lines:
        words = shlex.split(line, comments=True) if line.strip().startswith("secure-train ") else []
        end = next((index for index, word in enumerate(words) if word in {">", "|", "&&", ";"}), len(words))
        if words:
            yield words[1:end]


@cache
def tree() -> TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def complaint(words: list[str]) -> str | None:
    """What is wrong with a command line; None if the real application would take it."""
    # A synopsis writes [OPTIONS], and brackets around what may be left out.
    words = [word.strip("[].") for word in words if word != "[OPTIONS]"]
    context = typer.Context(tree(), info_name="secure-train")
    command: Any = tree()
    rest = list(words)
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None:
            return f"{command.name} has no command {name}"
        context = typer.Context(found, info_name=name, parent=context)
        command = found
    if isinstance(command, TyperGroup):
        return None
    options = {
        flag: p for p in command.params for flag in [*p.opts, *p.secondary_opts] if flag.startswith("-")
    }
    places = sum(p.param_type_name == "argument" for p in command.params)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            places -= 1
            continue
        flag, equals, _ = word.partition("=")
        if flag not in {*options, "--help"}:
            return f"{command.name} has no option {flag}"
        takes_value = flag != "--help" and not getattr(options[flag], "is_flag", False)
        if takes_value and not equals:
            if not rest:
                return f"{flag} needs a value"
            rest.pop(0)
    return None if places >= 0 else f"{command.name} takes fewer arguments"


@by_document
def test_every_command_line_is_one_that_the_application_takes(document: Path) -> None:
    complaints = {
        " ".join(words): wrong
        for words in commands(document.read_text("utf-8"))
        if (wrong := complaint(words)) is not None
    }
    assert complaints == {}


def test_a_wrong_command_line_would_be_noticed() -> None:
    assert complaint(["jobs", "list", "--project", "census"]) is None
    assert complaint(["jobs", "dance"]) is not None
    assert complaint(["jobs", "list", "--dance"]) is not None
    assert complaint(["jobs", "show", "one", "two"]) is not None
    assert len(list(commands((REPOSITORY / "docs/tutorial.md").read_text("utf-8")))) > 30


def imports() -> dict[str, set[str]]:
    """Which of our packages each of our packages imports."""
    found: dict[str, set[str]] = {}
    for root in ROOTS:
        for file in (REPOSITORY / root / "secure_train").rglob("*.py"):
            package = file.relative_to(REPOSITORY / root / "secure_train").parts[0]
            used = found.setdefault(package, set())
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module == "secure_train":
                    names = [f"secure_train.{alias.name}" for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                else:
                    continue
                used |= {name.split(".")[1] for name in names if name.startswith("secure_train.")}
            used.discard(package)
    return found


def test_the_diagram_of_packages_is_that_of_the_imports() -> None:
    blocks = dict(FENCE.findall((REPOSITORY / "docs/architecture.md").read_text("utf-8")))
    drawn = {(a, b) for a, b in re.findall(r"^\s*(\w+) --> (\w+)$", blocks["mermaid"], re.MULTILINE)}
    real = imports()
    assert {arrow for arrow in drawn if arrow[1] not in real[arrow[0]]} == set()

    def reached(package: str) -> set[str]:
        direct = {b for a, b in drawn if a == package}
        return direct | {far for near in direct for far in reached(near)}

    assert {(a, b) for a, used in real.items() for b in used - reached(a)} == set()
    assert set(real) == {name for arrow in drawn for name in arrow}


def test_every_decision_is_in_the_index() -> None:
    index = (REPOSITORY / "docs/README.md").read_text("utf-8")
    for decision in (REPOSITORY / "docs/adr").glob("*.md"):
        assert f"adr/{decision.name}" in index
        assert len(decision.read_text("utf-8").splitlines()) <= 40
