"""Descriptions: what a module was built with, as plain data that JSON can hold, and the module built again from it.

A description names classes, and is read without importing any: a class is found when it is one of this library's, one of a few of
PyTorch's, or a subclass of `Described` that the program itself has imported. A file can therefore not make anything run but the constructors of
modules.

Plain values stand for themselves. What else may stand there is told by its one special key:

- `{"class": name, "args": {...}}`: a module;
- `{"partial": name, "args": {...}}`: a class with some arguments filled in, which makes modules (`functools.partial`);
- `{"name": name}`: a class, or a function, itself.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any

from torch import nn

Description = dict[str, Any]
SPECIAL = ("class", "partial", "name")
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

TORCH = {
    f"torch.nn.{kind.__name__}": kind
    for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.Identity, nn.Dropout, nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh)
}
NAMED: dict[str, Any] = {**TORCH, "torch.nn.Sequential": nn.Sequential}


class Described(nn.Module):
    """A module that remembers what it was built with. Every module of this library is one; subclasses need do nothing for it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        describable(cls)
        if "__init__" in cls.__dict__:
            cls.__init__ = _remembering(cls.__init__)  # type: ignore[method-assign]

    @property
    def arguments(self) -> dict[str, Any]:
        """What the constructor was given, defaults included. For a module that was given, or left out, stands what has its place now."""
        given = self.__dict__.get("given", {})
        return {name: getattr(self, name, value) if value is None or _holds_modules(value) else value for name, value in given.items()}


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @wraps(init)
    def remember(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if "given" not in self.__dict__:  # the constructor of the class itself runs first, and then those that it calls
            self.__dict__["given"] = _by_name(signature, self, *args, **kwargs)
        init(self, *args, **kwargs)

    return remember


def _by_name(signature: inspect.Signature, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """All arguments of a call but the first by name, defaults included; those without a name of their own as a whole, under one with a star."""
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found.update(value)
        elif kind is not inspect.Parameter.VAR_POSITIONAL:
            found[name] = value
        elif value:
            found[f"*{name}"] = value
    return found


def describable(thing: Any) -> Any:
    """Decorates a function that may stand in a description."""
    NAMED[f"{thing.__module__}.{thing.__qualname__}"] = thing
    return thing


def describe(value: Any) -> Any:
    """A module, or anything that one may be built with, as plain data.

    Raises:
        ValueError: naming what cannot be told in plain data, such as a function of the caller's own.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, nn.ModuleDict):
        return {name: describe(item) for name, item in value.items()}
    if isinstance(value, nn.Module):
        if nameless := [name for name in _arguments(value) if name.startswith("*")]:
            raise ValueError(f"{type(value).__name__} was built with {nameless[0]}, which cannot be described: give its arguments by name")
        return {"class": _name(type(value)), "args": {name: describe(item) for name, item in _arguments(value).items()}}
    if isinstance(value, Mapping):
        if bad := [key for key in value if not isinstance(key, str) or key in SPECIAL]:
            raise ValueError(f"{bad[0]!r} cannot be a key in a description: give names other than {', '.join(SPECIAL)}")
        return {name: describe(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [describe(item) for item in value]
    if isinstance(value, partial):
        return _describe_partial(value)
    return {"name": _name(value)}


def build(description: Any) -> Any:
    """What a description describes.

    Raises:
        ValueError: when it names what may not be built, or a constructor refuses its arguments.
    """
    if isinstance(description, list):
        return [build(item) for item in description]
    if not isinstance(description, dict):
        return description
    kinds = [key for key in SPECIAL if key in description]
    if not kinds:
        return {name: build(item) for name, item in description.items()}
    kind = kinds[0]
    thing = _named(description[kind])
    if kind == "name":
        return thing
    if not isinstance(thing, type):
        raise ValueError(f"{description[kind]} is a function: a description may name it, and not call it")
    given = description.get("args", {})
    if not isinstance(given, dict):
        raise ValueError(f"{description[kind]} has {given!r} for arguments, and they come by name")
    args = {name: build(item) for name, item in given.items()}
    if kind == "partial":
        return partial(thing, **args)
    try:
        return thing(*args.values()) if thing is nn.Sequential else thing(**args)
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:  # what constructors say to values of another kind
        raise ValueError(f"{description['class']} cannot be built from this description: {error}") from error


def _holds_modules(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(item, nn.Module) for item in value.values())
    return isinstance(value, nn.Module)


def _name(thing: Any) -> str:
    """The name under which it stands in descriptions."""
    for name, known in NAMED.items():
        if known is thing:
            return name
    what = thing if isinstance(thing, type) or callable(thing) else type(thing)
    raise ValueError(
        f"{getattr(what, '__module__', '')}.{getattr(what, '__qualname__', what)} cannot be described, so that a model with it cannot be saved "
        "without its code: derive a module from perceiver.Described, or mark a function with perceiver.describable"
    )


def _named(name: Any) -> Any:
    if not isinstance(name, str) or name not in NAMED:
        raise ValueError(f"{name!r} is no part of this library: import the code that defines it first, and trust it before you do")
    return NAMED[name]


def _arguments(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, Described):
        return module.arguments
    if type(module) is nn.Sequential:
        return dict(module.named_children())
    _name(type(module))
    parameters = inspect.signature(type(module)).parameters.values()
    return {p.name: _read(module, p.name) for p in parameters if p.name not in ("device", "dtype") and p.name[0] != "_" and p.kind not in VARIABLE}


def _read(module: nn.Module, name: str) -> Any:
    """An argument of one of PyTorch's modules, which keeps each under its name; of the bias, whether there is one."""
    value = getattr(module, name)
    return value is not None if name == "bias" else value


def _describe_partial(value: "partial[Any]") -> Description:
    """A class with arguments; the command line wraps it once more."""
    classes = [part for part in (value.func, *value.args) if isinstance(part, type)]
    if len(classes) != 1 or (value.func is classes[0] and value.args):
        raise ValueError(f"{value} cannot be described: give functools.partial a class, and arguments by name")
    return {"partial": _name(classes[0]), "args": {name: describe(item) for name, item in value.keywords.items()}}
