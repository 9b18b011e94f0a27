"""A hash of the code that a measurement reaches: cells of the notebook and library code, comments and docstrings aside."""
import ast
import hashlib
from functools import lru_cache
from pathlib import Path

PACKAGE = "cl_lib"
HERE = Path(__file__).resolve().parent
# These run, record, draw, check input or fetch files; no value measured in one process depends on them. Data are known by
# the checksums in each row.
OUTSIDE = {f"{PACKAGE}.{name}" for name in (
    "checks", "datasets.sources", "distributed", "errors", "evidence", "experiment", "figures", "fingerprint", "pages", "papers",
    "pictures", "report", "runs", "verdicts")}


def pinned(number: int):
    """Mark a library function that counts in fingerprints by this number, not by its code and what that reaches.

    For few functions whose values tests hold fast (`tests/losses/pinned.json`), so that they may become quicker without making rows
    stale. Raise the number when a value may change by more than rounding.
    """
    return lambda function: function


def code_hash(shared: list[str], cells: list[str]) -> str:
    """The fingerprint of `cells` and of whatever they reach in `shared` set-up cells and in the library.

    Two texts that differ in comments, docstrings or layout have the same fingerprint, and so have two that differ in where
    they import or in what `run.pick` takes at tier smoke, which is never evidence. A library function counts only when it is
    reached by name, so a change elsewhere in its file moves nothing; one that is `pinned` counts by its number.
    """
    reached: dict[str, str] = {}
    setup = _Scope("<set-up>", ast.parse("\n".join(shared)))
    own = _Scope("<paper>", ast.parse("\n".join(cells)))
    outside = {**setup.imports, **own.imports}
    own.imports, own.fallback = outside, setup
    statements = [s for s in own.tree.body if not isinstance(s, (ast.Import, ast.ImportFrom))]
    for number, statement in enumerate(statements):
        reached[f"cell:{number}"] = _dump(statement)
        _follow(statement, own, reached)
    text = "\n".join(f"{name}={reached[name]}" for name in sorted(reached))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def definitions(source: str) -> dict[str, str]:
    """Name -> normalised code of each top-level function, class and assignment of a cell."""
    scope = _Scope("<cell>", ast.parse(source))
    return {name: _dump(node) for name, node in scope.names.items()}


class _Scope:
    """The top-level names of a module or cell, and what its imports stand for."""

    def __init__(self, name: str, tree: ast.Module, package: str = PACKAGE):
        self.name, self.tree, self.fallback = name, tree, None
        self.names: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                self.names[node.name] = node
            elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            self.names[name.id] = node
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "pick":
                node.keywords = [k for k in node.keywords if k.arg != "smoke"]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
                for a in node.names:
                    self.imports[a.asname or a.name] = (node.module, a.name)
            elif isinstance(node, ast.Import):
                for a in node.names:
                    if a.name.split(".")[0] == package:
                        self.imports[a.asname or package] = (a.name if a.asname else package, None)


@lru_cache
def _module(name: str) -> "_Scope | None":
    path = HERE.joinpath(*name.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return _Scope(name, ast.parse(path.read_text(encoding="utf8"))) if path.exists() else None


def _follow(node: ast.AST, scope: _Scope, reached: dict[str, str], local: frozenset[str] = frozenset()) -> None:
    """Add all that the names under `node` reach; `local` are those that a function around it binds itself."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        local |= _bound(node)
    if isinstance(node, ast.Attribute):
        chain, value = [node.attr], node.value
        while isinstance(value, ast.Attribute):
            chain, value = [value.attr, *chain], value.value
        if isinstance(value, ast.Name) and value.id in scope.imports and value.id not in local:
            module, attribute = scope.imports[value.id]
            _resolve(module, ([attribute] if attribute else []) + chain, reached)
    elif isinstance(node, ast.Name) and node.id not in local:
        if node.id in scope.imports:
            module, attribute = scope.imports[node.id]
            _resolve(module, [attribute] if attribute else [], reached)
        else:
            _add(node.id, scope, reached)
    for part in ast.iter_child_nodes(node):
        _follow(part, scope, reached, local)


def _bound(function: ast.AST) -> frozenset[str]:
    """The names of a function's parameters and of what its body assigns, functions inside it included."""
    a = function.args
    names = {p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if p}
    body = function.body if isinstance(function.body, list) else [function.body]
    outer = set()
    for part in (p for statement in body for p in ast.walk(statement)):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(part.name)
        elif isinstance(part, (ast.Global, ast.Nonlocal)):
            outer.update(part.names)
    return frozenset(names - outer)


def _add(name: str, scope: _Scope, reached: dict[str, str]) -> None:
    if name not in scope.names:
        if scope.fallback and name in scope.fallback.names:
            _add(name, scope.fallback, reached)
        return
    key = f"{scope.name}:{name}"
    if key not in reached and scope.name != "<paper>":
        node = scope.names[name]
        if (number := _pinned(node)) is not None:
            reached[key] = f"pinned {number}"
        else:
            reached[key] = _dump(node)
            _follow(node, scope, reached)


def _resolve(module: str, chain: list[str], reached: dict[str, str]) -> None:
    """Follow module.chain[0].chain[1]... to a definition; a bare module is reached only through its attributes."""
    while chain and _module(f"{module}.{chain[0]}"):
        module, chain = f"{module}.{chain[0]}", chain[1:]
    if module in OUTSIDE or not chain or (scope := _module(module)) is None:
        return
    if chain[0] in scope.names:
        _add(chain[0], scope, reached)
    elif chain[0] in scope.imports:
        target, attribute = scope.imports[chain[0]]
        _resolve(target, ([attribute] if attribute else []) + chain[1:], reached)


def _pinned(node: ast.stmt) -> int | None:
    """The number of a function under `@pinned(number)`."""
    for call in getattr(node, "decorator_list", []):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "pinned":
            return ast.literal_eval(call.args[0])
    return None


def _dump(node: ast.AST) -> str:
    node = ast.parse(ast.unparse(node))
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and ast.get_docstring(part) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    return ast.dump(node)
