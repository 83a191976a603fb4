"""What may be changed in a program so that its tests should notice: one small change at a time, inside functions.

Comparisons lose or win their edge or turn round, arithmetic and `and`/`or` swap, `not` and signs fall away, numbers grow by one, truth
values flip, `min` becomes `max` and `any` becomes `all` (and NumPy's likewise), conditions are negated, results become None, and
statements that act by what they change are left out. Left alone are defaults, annotations, assertions, `strict=` of `zip` and what an
exception says: they run when a module is imported, speak to the type checker, tell of bugs alone, or are read by people only.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

Function = ast.FunctionDef | ast.AsyncFunctionDef

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
PAIRS = (
    ("min", "max"), ("any", "all"), ("minimum", "maximum"), ("argmin", "argmax"), ("floor", "ceil"), ("zeros", "ones"),
    ("cummin", "cummax"), ("amin", "amax"), ("fmin", "fmax"), ("nanmin", "nanmax"),
)  # fmt: skip
NAMES = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
SIDES = {"left": "right", "right": "left"}
UNTOUCHED = frozenset({"annotation", "returns", "decorator_list", "args", "type_params"})


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: where it stands, what it was and is, and the first and last line of the statement around it.

    `nth` tells it from like changes before it in the function, so that a name lasts while lines move.
    """

    file: str
    function: str
    nth: int
    line: int
    before: str
    after: str
    span: tuple[int, int]

    @property
    def name(self) -> str:
        """What tells it from all others of the same source."""
        return f"{self.file} {self.function}: {self.before} -> {self.after}{f' #{self.nth}' if self.nth else ''}"


def mutants(source: str, file: str) -> Iterator[tuple[Mutant, CodeType]]:
    """Every change of a module's functions, in order, with the whole module compiled with it. Those that change nothing are left out."""
    tree = ast.parse(source)
    plain, seen = compile(tree, file, "exec"), Counter[tuple[str, str, str]]()
    for function, name in functions(tree):
        for holder, field, place, span in spots(function):
            old = _get(holder, field, place)
            for new in changes(old):
                if not isinstance(new, ast.expr_context | ast.cmpop | ast.operator):
                    ast.copy_location(new, old)
                ast.fix_missing_locations(new)
                _put(holder, field, place, new)
                compiled = compile(tree, file, "exec")
                _put(holder, field, place, old)
                if compiled != plain:
                    change = (name, _short(old), _short(new))
                    yield Mutant(file, name, seen[change], _line(old), *change[1:], span), compiled
                    seen[change] += 1


def code_of(compiled: CodeType, function: str) -> CodeType:
    """A function's code in that of its module. Raises LookupError where there is none."""
    waiting = [compiled]
    while waiting:
        for code in (constant for constant in waiting.pop().co_consts if isinstance(constant, CodeType)):
            if code.co_qualname == function:
                return code
            waiting.append(code)
    raise LookupError(f"no function {function} in {compiled.co_filename}")


def functions(tree: ast.Module) -> Iterator[tuple[Function, str]]:
    """A module's functions and its classes' methods, with their qualified names; what they hold inside belongs to them."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node, node.name
        elif isinstance(node, ast.ClassDef):
            yield from ((method, f"{node.name}.{method.name}") for method in node.body if isinstance(method, Function))


def spots(function: Function) -> Iterator[tuple[ast.AST, str, int | None, tuple[int, int]]]:
    """Where a node hangs that may be changed: its holder, the field, the place in it, and the lines of the statement around."""
    for statement in function.body:
        yield from _spots(function, "body", function.body.index(statement), statement, (0, 0))


def _spots(
    holder: ast.AST, field: str, place: int | None, node: ast.AST, span: tuple[int, int]
) -> Iterator[tuple[ast.AST, str, int | None, tuple[int, int]]]:
    if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg == "strict"):
        return
    span = lines(node) if isinstance(node, ast.stmt) else span
    yield holder, field, place, span
    for name, value in ast.iter_fields(node):
        if name in UNTOUCHED and not isinstance(node, ast.Call):
            continue
        for at, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(child, ast.AST):
                yield from _spots(node, name, at, child, span)


def lines(statement: ast.stmt) -> tuple[int, int]:
    """The first and last line of a statement; of one that holds others, those of its head."""
    body = getattr(statement, "body", None)
    last = max(statement.lineno, body[0].lineno - 1) if body else statement.end_lineno
    return statement.lineno, last or statement.lineno


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=right):
            for at, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield ast.Compare(left, [*ops[:at], other(), *ops[at + 1 :]], right)
        case ast.BinOp(left=left, op=op, right=other_side) if type(op) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(op)](), other_side)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)) if value in SIDES:
            yield ast.Constant(SIDES[value])
        case ast.Name(id=name, ctx=ctx) if name in NAMES:
            yield ast.Name(NAMES[name], ctx)
        case ast.Attribute(value=of, attr=name, ctx=ctx) if name in NAMES:
            yield ast.Attribute(of, NAMES[name], ctx)
        case ast.IfExp(test=test, body=body, orelse=orelse) if _is_plain(test):
            yield ast.IfExp(_negated(test), body, orelse)
        case ast.comprehension(target=target, iter=source, ifs=tests, is_async=kind) if tests:
            yield from (ast.comprehension(target, source, [*tests[:at], *tests[at + 1 :]], kind) for at in range(len(tests)))
        case ast.stmt():
            yield from _statements(node)


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    match node:
        case ast.If(test=test, body=body, orelse=orelse) if _is_plain(test):
            yield ast.If(_negated(test), body, orelse)
        case ast.While(test=test, body=body, orelse=orelse) if _is_plain(test):
            yield ast.While(_negated(test), body, orelse)
        case ast.Return(value=value) if value is not None and not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Assign(targets=[ast.Subscript() | ast.Attribute()]):
            yield ast.Pass()
            if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
                yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()


def _is_plain(test: ast.expr) -> bool:
    """Whether no change inside a condition turns it round already."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp)


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _line(node: ast.AST) -> int:
    """Where it begins; a comprehension where its target does."""
    line: int = getattr(node.target if isinstance(node, ast.comprehension) else node, "lineno")  # noqa: B009
    return line


def _get(holder: ast.AST, field: str, place: int | None) -> ast.expr:
    value = getattr(holder, field)
    found: ast.expr = value if place is None else value[place]
    return found


def _put(holder: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(holder, field, node)
    else:
        getattr(holder, field)[place] = node


def _short(node: ast.AST, most: int = 90) -> str:
    """A node as text, on one line."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
