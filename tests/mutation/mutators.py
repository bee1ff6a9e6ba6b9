"""Small faults that a programmer might make, as pieces of source text: what stands there, and what would stand there.

Nothing here runs or writes anything. What no test can be about is let be: docstrings, `__repr__`, log lines,
annotations, type aliases, decorators, assertions, what is there for the type checker alone, and texts for people.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from itertools import pairwise

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OTHERS = {"min": "max", "max": "min", "any": "all", "all": "any"}
SILENT = re.compile(r"(\w*log|\w*logger|warnings|gc)\.|(assert_never|cast|TypeVar|NewType)\(")
"""Calls that change nothing a test could see."""
Placed = ast.expr | ast.stmt | ast.arg
TOKEN = re.compile(r"[^\s{}%]+")
"""A string for programs. Others are for people."""


@dataclass(frozen=True, order=True)
class Mutant:
    """`path` is relative to the tree, `function` dotted, or empty for the module's own lines; offsets count bytes."""

    path: str
    line: int
    start: int
    end: int
    before: str
    after: str
    function: str

    @property
    def name(self) -> tuple[str, str, str, str]:
        """What stays the same when lines move."""
        return self.path, self.function, self.before, self.after

    def applied(self, source: str) -> str:
        text = source.encode()
        return (text[: self.start] + self.after.encode() + text[self.end :]).decode()

    def diff(self, source: str) -> str:
        lines = unified_diff(source.splitlines(), self.applied(source).splitlines(), lineterm="", n=2)
        return "\n".join([f"{self.path}:{self.line} in {self.function or 'the module'}", *list(lines)[2:]])


def mutants_of(path: str, source: str) -> list[Mutant]:
    """All of one module, in the order of their places. Each is valid Python."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(mutant for mutant in finder.found if _compiles(mutant.applied(source)))


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


class _Finder(ast.NodeVisitor):
    """Walks through all that a test may be about, and collects the faults of each node."""

    def __init__(self, path: str, source: str) -> None:
        self.found: set[Mutant] = set()
        self._path = path
        self._text = source.encode()
        lengths = [len(line) for line in self._text.splitlines(keepends=True)]
        self._starts = [sum(lengths[:number]) for number in range(len(lengths))]
        self._scopes: list[str] = []

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.expr):
            for after in _faults(node):
                self._add(node, node, after)
        super().visit(node)

    def visit_Module(self, node: ast.Module) -> None:
        self._block(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scopes.append(node.name)
        self._block(node.body)
        self._scopes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in ("__repr__", "__str__"):
            return
        self._scopes.append(node.name)
        arguments = [*node.args.posonlyargs, *node.args.args]
        positional = zip(reversed(arguments), reversed(node.args.defaults), strict=False)
        keyword = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        for argument, default in (*positional, *keyword):
            if default:
                self._add(argument, default, ast.unparse(argument))
        self._block(node.body, last_return_stays=True)
        self._scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        self._add(node.test, node.test, "False")
        if not node.orelse and not isinstance(node.body[-1], ast.Raise | ast.Return | ast.Continue | ast.Break):
            self._add(node.test, node.test, "True")
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        for body in (node.finalbody, *(handler.body for handler in node.handlers)):
            if body:
                self._add(body[0], body[-1], "pass")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value and "TypeAlias" not in ast.unparse(node.annotation):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if self._scopes or not isinstance(node.value, ast.Subscript | ast.BinOp):  # most likely a type's name
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if ast.unparse(node.value) not in ("Literal", "Annotated"):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if not SILENT.match(ast.unparse(node)):
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text for people, or made of what has mutants elsewhere."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """States what holds anyway."""

    def generic_visit(self, node: ast.AST) -> None:
        for _, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._block(value)
            else:
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, ast.AST):
                        self.visit(each)

    def _block(self, body: list[ast.stmt], *, last_return_stays: bool = False) -> None:
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # a docstring
            stays = last_return_stays and statement is body[-1] and isinstance(statement, ast.Return)
            if not stays and (
                _is_effect(statement) or isinstance(statement, ast.Raise | ast.Return | ast.Continue | ast.Break)
            ):
                self._add(statement, statement, "pass")
            self.visit(statement)
        for one, other in pairwise(body):
            if _is_effect(one) and _is_effect(other):
                between = self._text[self._end(one) : self._start(other)].decode()
                self._add(one, other, self._source(other) + between + self._source(one))

    def _start(self, node: Placed) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _end(self, node: Placed) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._starts[node.end_lineno - 1] + node.end_col_offset

    def _source(self, node: Placed) -> str:
        return self._text[self._start(node) : self._end(node)].decode()

    def _add(self, first: Placed, last: Placed, after: str) -> None:
        start, end = self._start(first), self._end(last)
        before = self._text[start:end].decode()
        if before != after:
            self.found.add(Mutant(self._path, first.lineno, start, end, before, after, ".".join(self._scopes)))


def _is_effect(statement: ast.stmt) -> bool:
    """A call for what it does."""
    if not isinstance(statement, ast.Expr):
        return False
    call = statement.value.value if isinstance(statement.value, ast.Await) else statement.value
    return isinstance(call, ast.Call) and not SILENT.match(ast.unparse(call))


def _faults(node: ast.expr) -> Iterator[str]:  # noqa: PLR0912 (one branch per kind)
    """What may stand in the place of an expression."""
    match node:
        case ast.Compare(ops=[*operators]):
            for place, operator in enumerate(operators):
                for other in COMPARISONS[type(operator)]:
                    changed = [*operators[:place], other(), *operators[place + 1 :]]
                    yield ast.unparse(ast.Compare(node.left, changed, node.comparators))
        case ast.BoolOp(op=operator, values=values):
            swapped = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield f"({ast.unparse(ast.BoolOp(swapped, values))})"
            for place in range(len(values)):
                left = [*values[:place], *values[place + 1 :]]
                yield f"({ast.unparse(left[0] if len(left) == 1 else ast.BoolOp(operator, left))})"
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield f"({ast.unparse(operand)})"
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield f"({ast.unparse(ast.IfExp(test, orelse, body))})"
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as operator, right=right):
            other_sum = ast.Sub() if isinstance(operator, ast.Add) else ast.Add()
            yield f"({ast.unparse(ast.BinOp(left, other_sum, right))})"
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in OTHERS:
            yield ast.unparse(ast.Call(ast.Name(OTHERS[name]), args, keywords))
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from (repr(value + 1), repr(value - 1) if value else "(-1)")
        case ast.Constant(value=str(value)) if TOKEN.fullmatch(value):
            yield '""'
        case ast.Constant(value=bytes(value)) if value:
            yield 'b""'
