# SPDX-License-Identifier: Apache-2.0
"""Frozen data."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from typing_extensions import dataclass_transform

    R = TypeVar("R", bound="Record")
else:

    def dataclass_transform(**_: object):
        return lambda cls: cls


@dataclass_transform(kw_only_default=False, frozen_default=True)
class Record:
    """A frozen dataclass without the import of dataclasses, which costs a third of a cold start."""

    __slots__ = ("__dict__", "_hash")
    _fields: tuple[str, ...] = ()
    _defaults: dict[str, Any] = {}
    _names: frozenset[str] = frozenset()
    _hash: int

    def __init_subclass__(cls) -> None:
        cls._fields += tuple(name for name in cls.__annotations__ if name not in cls._fields)
        cls._defaults = {n: getattr(cls, n) for n in cls._fields if hasattr(cls, n)}
        cls._names = frozenset(cls._fields)

    def __init__(self, *args: Any, **given: Any) -> None:
        values = self.__dict__
        values.update(self._defaults)
        if args:
            if given:
                self._check_once(len(args), given)
            values.update(zip(self._fields, args, strict=False))
        values.update(given)
        if len(args) > len(self._fields) or values.keys() != self._names:
            self._complain(len(args))

    def _check_once(self, positional: int, given: dict[str, Any]) -> None:
        for name in self._fields[:positional]:
            if name in given:
                raise TypeError(f"{type(self).__name__}: {name!r} is given twice")

    def _complain(self, positional: int) -> None:
        name = type(self).__name__
        unknown = self.__dict__.keys() - self._names
        missing = self._names - self.__dict__.keys()
        if unknown or positional > len(self._fields):
            raise TypeError(f"{name} has no field {', '.join(unknown) or positional}")
        raise TypeError(f"{name} needs {', '.join(missing)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def astuple(self) -> tuple[Any, ...]:
        values = self.__dict__
        return tuple([values[name] for name in self._fields])

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:  # a record is frozen, and most parts of a Spec are the same ones
            object.__setattr__(self, "_hash", hash((type(self), self.astuple())))
            return self._hash

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({inside})"

    def replace(self: R, **changes: Any) -> R:
        """The same record with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})
