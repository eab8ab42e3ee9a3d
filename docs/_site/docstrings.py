"""Shows the docstrings here as tables: `name: what it is` at the start of a sentence explains an argument or a field.

An extension of griffe, which reads the source for mkdocstrings. Nothing of the package is imported.
"""

import re
from collections.abc import Iterator

from griffe import (
    Alias,
    Attribute,
    Class,
    Docstring,
    DocstringParameter,
    DocstringSection,
    DocstringSectionParameters,
    DocstringSectionText,
    Expr,
    ExprCall,
    ExprKeyword,
    ExprSubscript,
    ExprTuple,
    Extension,
    Function,
    GriffeLoader,
    Module,
)

EXPLAINED = re.compile(r"(?:(?<=\A)|(?<=\n)|(?<=[.;] ))(\w+(?:, \w+)*): ")
"""One name or several, then a colon: at the start of the docstring, of a line or of a sentence."""
EXAMPLE = re.compile(r"((?:^(?:>>>|\.\.\.) .*\n)+)", re.MULTILINE)


class HouseDocstrings(Extension):
    """Tells what a docstring says of arguments and fields from the rest, and joins fields with base classes'."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: object) -> None:
        """Rewrite the docstrings of a package that is loaded whole, so that base classes can be found."""
        self._walk(pkg)
        tables = [(cls, *fields_of(cls)) for cls in classes_of(pkg) if is_dataclass(cls)]
        for cls, known, texts in tables:  # when all are known: some are each other's base classes
            explain(cls.docstring, known, inherited=texts, title=title_of(cls))
            for name in known:
                cls.members.pop(name, None)

    def _walk(self, within: Module | Class) -> None:
        for member in within.members.values():
            if isinstance(member, Alias):
                continue
            if isinstance(member, Function):
                explain(member.docstring, arguments_of(member))
            elif isinstance(member, Attribute):
                comment = comment_of(member)
                if member.docstring is None and comment:
                    member.docstring = Docstring(comment, parent=member)
            if isinstance(member, Module | Class):
                self._walk(member)


def arguments_of(function: Function) -> dict[str, DocstringParameter]:
    return {
        one.name: DocstringParameter(one.name, description="", annotation=plain(one.annotation), value=one.default)
        for one in function.parameters
        if one.name not in ("self", "cls")
    }


def classes_of(within: Module | Class) -> Iterator[Class]:
    for member in within.members.values():
        if isinstance(member, Class):
            yield member
        if isinstance(member, Module | Class):
            yield from classes_of(member)


def title_of(cls: Class) -> str:
    return "Settings:" if cls.name.endswith(("Settings", "Parameters", "Config", "Sliding")) else "Fields:"


def comment_of(attribute: Attribute) -> str:
    """Return what stands behind an assignment, such as the shape of an array."""
    if attribute.lineno is None or attribute.lineno != attribute.endlineno:
        return ""
    comment = attribute.source.partition("  # ")[2].strip()
    return comment[:1].upper() + comment[1:]


def is_dataclass(cls: Class) -> bool:
    return any(decorator.callable_path.endswith(".dataclass") for decorator in cls.decorators)  # by whatever name here


def fields_of(cls: Class) -> tuple[dict[str, DocstringParameter], list[str]]:
    """Return the fields in the order of `__init__`, and the base classes' docstrings, which explain some of them."""
    known: dict[str, DocstringParameter] = {}
    texts = []
    for owner in [*reversed(cls.mro()), cls]:
        if owner is not cls and owner.docstring:
            texts.append(owner.docstring.value)
        for name, member in owner.members.items():
            if isinstance(member, Attribute) and "instance-attribute" in member.labels and not name.startswith("_"):
                own = member.docstring.value if member.docstring else ""
                known[name] = DocstringParameter(
                    name, description=own, annotation=plain(member.annotation), value=default_of(member.value)
                )
    return known, texts


def default_of(value: str | Expr | None) -> str | Expr | None:
    """`field(default=None)` -> `None`; `Field(default_factory=Settings)` -> `Settings()`."""
    if not isinstance(value, ExprCall) or str(value.function) not in ("field", "Field"):
        return value
    given = {one.name: one.value for one in value.arguments if isinstance(one, ExprKeyword)}
    return f"{given['default_factory']}()" if "default_factory" in given else given.get("default")


def plain(annotation: str | Expr | None) -> str | Expr | None:
    """`Annotated[int, Field(ge=1)]` -> `int`: the limits are checked and told by the class itself."""
    if isinstance(annotation, ExprSubscript) and annotation.canonical_name == "Annotated":
        inner = annotation.slice
        return inner.elements[0] if isinstance(inner, ExprTuple) else inner
    return annotation


def explain(
    docstring: Docstring | None,
    known: dict[str, DocstringParameter],
    *,
    inherited: list[str] | None = None,
    title: str | None = None,
) -> None:
    """Give a docstring its sections. title: of a table of all that is known, and not only of what is explained."""
    if docstring is None:
        return
    for text in inherited or []:
        _, said = taken_apart(text, known)
        for name, what in said.items():
            known[name].description = known[name].description or what
    rest, said = taken_apart(docstring.value, known)
    for name, what in said.items():
        known[name].description = what
    rows = [row for row in known.values() if title or row.description]
    sections: list[DocstringSection] = [DocstringSectionText(EXAMPLE.sub(r"```pycon\n\1```\n", rest + "\n"))]
    if rows:
        sections.append(DocstringSectionParameters(rows, title=title))
    docstring.__dict__["parsed"] = sections


def taken_apart(text: str, known: dict[str, DocstringParameter]) -> tuple[str, dict[str, str]]:
    """Return what a docstring says in general, and what it says of single names."""
    rest, said = [], {}
    for paragraph in text.split("\n\n"):
        found = [match for match in EXPLAINED.finditer(paragraph) if all(n in known for n in match[1].split(", "))]
        rest.append(paragraph[: found[0].start()] if found else paragraph)
        ends = [match.start() for match in found[1:]] + [len(paragraph)]
        for match, end in zip(found, ends, strict=False):
            what = paragraph[match.end() : end].strip().rstrip(";")
            for name in match[1].split(", "):
                said[name] = what[:1].upper() + what[1:]
    return "\n\n".join(part.strip() for part in rest if part.strip()), said
