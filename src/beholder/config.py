"""The base of everything that is data: cards, part configs, geometries, chat formats, stages.

A config is a frozen dataclass. It can be varied (`but`), written as plain JSON data (`to_data`) and read back
(`from_data`) without any import named by a file: only classes of this package can be named.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import pkgutil
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from beholder.errors import BeholderError, UnknownName

C = TypeVar("C", bound="Config")
CONFIG_PACKAGES = ("beholder.parts", "beholder.media", "beholder.prompts", "beholder.cards.schema")


@dataclass(frozen=True)
class Config:
    """Frozen settings of one thing. Subclasses are registered by class name, which must be unique."""

    registry: ClassVar[dict[str, type[Config]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = Config.registry.get(cls.__name__)
        if known is not None and known.__module__ != cls.__module__:
            raise TypeError(f"two configs are called {cls.__name__}: {known.__module__} and {cls.__module__}")
        Config.registry[cls.__name__] = cls

    def but(self, **changes: Any) -> Self:
        """A copy with some fields changed. A name with dots, as in `but(**{"attention.num_heads": 4})`, changes a field
        of a field. An unknown field raises `UnknownName`.
        """
        names = [field.name for field in dataclasses.fields(self) if field.init]
        direct: dict[str, Any] = {}
        for path, value in changes.items():
            name, _, rest = path.partition(".")
            if name not in names:
                raise UnknownName(f"field of {type(self).__name__}", name, names)
            if rest:
                inner = direct.get(name, getattr(self, name))
                if not isinstance(inner, Config):
                    raise BeholderError(f"{path}: {name} of {type(self).__name__} has no fields of its own")
                value = inner.but(**{rest: value})
            direct[name] = value
        return dataclasses.replace(self, **direct)

    def entry(self, name: str) -> tuple[Any, Any]:
        """The value and the declared type of what `but` changes under `name`. Raises `UnknownName`."""
        names = [field.name for field in dataclasses.fields(self) if field.init]
        if name not in names:
            raise UnknownName(f"field of {type(self).__name__}", name, names)
        return getattr(self, name), _type_hints(type(self))[name]

    def tiny(self) -> Self:
        """The same thing at a size that runs in milliseconds: every config field made tiny."""
        return self.but(**{name: _tiny(getattr(self, name)) for name in self._config_fields()})

    def _config_fields(self) -> list[str]:
        return [f.name for f in dataclasses.fields(self) if f.init and _holds_config(getattr(self, f.name))]

    def to_data(self) -> dict[str, Any]:
        """Plain JSON data: `class` names the config, fields at their default are left out."""
        data: dict[str, Any] = {"class": type(self).__name__}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.init and not _is_default(field, value):
                data[field.name] = _encode(value)
        return data


def from_data(data: Mapping[str, Any], *, at: str = "") -> Any:
    """The config that `to_data` described. `at` is the path of the data, for messages.

    Raises `BeholderError` for data that names no config of this package or an unknown field, with the path.
    """
    if not isinstance(data, Mapping) or "class" not in data:
        raise BeholderError(f"{at or 'data'}: expected an object with a 'class', got {type(data).__name__}")
    _import_config_modules()
    kind = data["class"]
    cls = Config.registry.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise UnknownName(f"{at or 'data'}: class", str(kind), Config.registry)
    hints = _type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.init]
    values = {}
    for key, value in data.items():
        if key == "class":
            continue
        path = f"{at}.{key}" if at else key
        if key not in names:
            raise UnknownName(f"{path}: field of {kind}", key, names)
        values[key] = _decode(value, hints[key], path)
    try:
        return cls(**values)
    except TypeError as error:
        raise BeholderError(f"{at or kind}: incomplete {kind} ({error})") from None


def set_from_text(config: C, path: str, text: str) -> C:
    """A copy with the field at `path` set to what `text` says, as on a command line: `steps` "20", `rules.0.lr` "1e-4". Parts
    of a path are fields, and numbers or names of a tuple's items. Text is JSON where the field takes what it says, else a
    string.

    Raises `UnknownName` for a path that there is not, `BeholderError` for a value that the field does not take.
    """
    return typing.cast(C, _set(config, path.split("."), text, path))


def _set(value: Any, names: Sequence[str], text: str, path: str) -> Any:
    if isinstance(value, tuple):
        place = _place(value, names[0], path)
        item = _set(value[place], names[1:], text, path) if len(names) > 1 else None
        if item is None:
            raise BeholderError(f"{path}: names an item of a list; name a field of it")
        return (*value[:place], item, *value[place + 1 :])
    if not isinstance(value, Config):
        raise BeholderError(f"{path}: {value!r} has no fields of its own")
    inner, hint = value.entry(names[0])
    new = _set(inner, names[1:], text, path) if len(names) > 1 else _from_text(text, hint, path)
    return value.but(**{names[0]: new})


def _place(items: Sequence[Any], name: str, path: str) -> int:
    names = [str(getattr(item, "name", number)) for number, item in enumerate(items)]
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < len(items):
        return int(name)
    raise UnknownName(f"{path}: item", name, names)


def _from_text(text: str, hint: Any, path: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    try:
        return _decode(value, hint, path)
    except BeholderError:
        if str not in _alternatives(hint):
            raise
        return text


_hints: dict[str, dict[str, Any]] = {}


def _type_hints(cls: type[Config]) -> dict[str, Any]:
    if cls.__name__ not in _hints:
        _hints[cls.__name__] = typing.get_type_hints(cls)
    return _hints[cls.__name__]


@functools.cache
def _import_config_modules() -> None:
    for name in CONFIG_PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(getattr(package, "__path__", ()), name + "."):
            importlib.import_module(module.name)


def _tiny(value: Any) -> Any:
    if isinstance(value, Config):
        return value.tiny()
    return tuple(_tiny(item) for item in value) if isinstance(value, tuple) else value


def _holds_config(value: Any) -> bool:
    return isinstance(value, Config) or (
        isinstance(value, tuple) and any(isinstance(v, Config) for v in value)
    )


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is not dataclasses.MISSING:
        return bool(value == field.default)
    return field.default_factory is not dataclasses.MISSING and bool(value == field.default_factory())


def _encode(value: Any) -> Any:
    if isinstance(value, Config):
        return value.to_data()
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a config may not hold a {type(value).__name__}")


def _decode(value: Any, hint: Any, path: str) -> Any:
    """JSON data as the type a field declares: lists become tuples, objects with a class become configs."""
    for kind in _alternatives(hint):
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Literal and value in arguments:
            return value
        if origin is tuple and isinstance(value, list):
            if arguments[-1] is Ellipsis:
                arguments = (arguments[0],) * len(value)
            if len(arguments) != len(value):
                raise BeholderError(f"{path}: {len(value)} values, expected {len(arguments)}")
            places = enumerate(zip(value, arguments, strict=True))
            return tuple(_decode(item, inner, f"{path}[{i}]") for i, (item, inner) in places)
        if kind in SCALARS and type(value) in SCALARS[kind]:
            return float(value) if kind is float else value
        if _is_config(kind) and isinstance(value, Mapping):
            config = from_data(value, at=path)
            if not any(isinstance(config, other) for other in _alternatives(hint) if _is_config(other)):
                raise BeholderError(f"{path}: a {type(config).__name__} is no {_names(hint)}")
            return config
    raise BeholderError(f"{path}: {value!r} is a {type(value).__name__}, expected {_names(hint)}")


SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
    types.NoneType: (types.NoneType,),
}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


def _is_config(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Config)


def _names(hint: Any) -> str:
    """What a field takes, for messages."""
    names = set[str]()
    for kind in _alternatives(hint):
        if typing.get_origin(kind) is typing.Literal:
            names |= {repr(value) for value in typing.get_args(kind)}
        elif typing.get_origin(kind) is tuple:
            names.add("list")
        else:
            names |= {one.__name__ for one in SCALARS.get(kind, (kind,))}
    return " or ".join(sorted(names))
