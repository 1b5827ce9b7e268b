"""A Jinja environment in which a template ends soon, whatever it does.

Templates come with model files, so they are a stranger's code. Jinja's sandbox keeps them from
the Python behind their values, but not from looping for ever or from filling the memory. Here
every loop and call looks at the clock, and whatever a template makes is weighed, beforehand
where a single operation can multiply.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, _PassArg
from jinja2.visitor import NodeTransformer

from llmengine.chat.budget import (
    BUDGET,
    ITEM,
    allow,
    check_binary,
    check_format,
    check_method,
    check_replace,
    weight,
)

FILTERS = """
abs attr capitalize count d default dictsort e escape first float groupby indent int items last
length list lower map max min reject rejectattr replace reverse safe select selectattr sort string
title trim truncate unique upper wordcount
"""
# Names that no template can write.
MADE = "*made"
LOOPED = "*looped"


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The environment that Hugging Face renders chat templates in, with limits.

    See `apply_chat_template` of transformers for the functions and options.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, Generation],
            finalize=_printed,
        )
        known = {name: self.filters[name] for name in FILTERS.split()}
        known |= {"join": _join, "tojson": _tojson, "indent": _indent, "replace": _replace}
        self.filters = {name: _weighed(function) for name, function in known.items()}
        self.filters[MADE] = _made
        self.filters[LOOPED] = _looped
        self.globals = {
            "range": self.globals["range"],
            "dict": dict,
            "namespace": Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        _Guards().visit(template)
        return template

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_binary(operator, left, right)
        return BUDGET.get().made(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        # Some templates collect in lists, and every list here is one rendering's own.
        return (attr in ("append", "pop") and type(obj) is list) or super().is_safe_attribute(
            obj, attr, value
        )

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        BUDGET.get().tick()
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str):
            check_method(owner, function.__name__, (*args, *kwargs.values()))
        elif isinstance(owner, list):
            BUDGET.get().tick(ITEM + weight(args))
        return BUDGET.get().made(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            check_format(value.__self__, [args, kwargs])
            return wrapped(*args, **kwargs)

        return checked


class Generation(Extension):
    """`{% generation %}` marks the model's own words for training; here it means nothing."""

    tags = {"generation"}  # noqa: RUF012  # the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Guards(NodeTransformer):
    """Lets what a template makes without a call pass by the budget, and its loops too."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        static = sum(len(each.data) for each in node.find_all(nodes.TemplateData))
        static += sum(len(str(each.value)) for each in node.find_all(nodes.Const))
        node.iter = _filter(node.iter, LOOPED, nodes.Const(static))
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.generic_visit(node)
        node.filter = _filter(node.filter, MADE)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        node.nodes = [_filter(each, MADE) for each in node.nodes]
        return _filter(node, MADE)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, MADE)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _filter(node, MADE)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _filter(node, MADE)


def _filter(node: nodes.Node | None, name: str, *args: nodes.Expr) -> nodes.Filter:
    found = nodes.Filter(node, name, list(args), [], None, None)
    found.set_lineno(node.lineno if node is not None else 0)
    return found


def _weighed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter with its result weighed; as it takes the context it is never precomputed."""
    wanted = _PassArg.from_obj(function)

    @pass_context
    def weighed(context: Context, *args: Any, **kwargs: Any) -> Any:
        first: dict[Any, Any] = {
            _PassArg.context: context,
            _PassArg.eval_context: context.eval_ctx,
            _PassArg.environment: context.environment,
        }
        passed = (first[wanted], *args) if wanted else args
        return BUDGET.get().made(function(*passed, **kwargs))

    return weighed


@pass_context
def _made(_: Context, value: Any) -> Any:
    return BUDGET.get().made(value)


@pass_context
def _looped(_: Context, items: Iterable[Any], static: int) -> Iterator[Any]:
    for item in items:
        BUDGET.get().tick(static)
        yield item


def _printed(value: Any) -> Any:
    return BUDGET.get().made(value)


def _join(items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    texts = [str(_attribute(each, attribute) if attribute else each) for each in items]
    allow(weight(texts) + len(d) * len(texts))
    return d.join(texts)


def _attribute(item: Any, name: str) -> Any:
    return item.get(name, "") if isinstance(item, dict) else ""


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    check_replace(str(text), str(old), str(new))
    return str(text).replace(str(old), str(new), count)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    pad = width if isinstance(width, str) else " " * min(width, 1000)
    lines = str(text).splitlines(keepends=True)
    allow(weight(lines) + len(lines) * len(pad))
    return "".join(
        pad + line if (first or at) and (blank or line.strip()) else line
        for at, line in enumerate(lines)
    )


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: plain JSON, where Jinja's own would escape it for HTML."""
    if isinstance(value, Generator):  # what filters like `map` make
        value = BUDGET.get().made(list(value))
    allow(weight(value) + ITEM * (indent or 0))
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=min(indent, 16) if indent is not None else None,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(pattern: str) -> str:
    check_format(pattern, "")
    return datetime.now().strftime(pattern)
