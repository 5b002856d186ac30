"""Classes by their import path: naming one in a manifest, and importing it if the operator lets its code run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from maas.errors import BadArtifact, Forbidden


def import_class(path: str, allow_code: Sequence[str], *, trusted: Sequence[str] = ()) -> type:
    """The class at `package.module:Class`.

    Only modules at or below a prefix in `trusted` or `allow_code` are imported: naming a module in a manifest is
    running its code. Raises `Forbidden` for any other, `BadArtifact` where there is no such class.
    """
    module_name, separator, class_name = path.partition(":")
    if not (separator and module_name and class_name.isidentifier()):
        raise BadArtifact(f"{path!r} names no class: expected package.module:Class")
    if not any(_is_within(module_name, prefix) for prefix in (*trusted, *allow_code)):
        raise Forbidden(
            f"the model needs the code of module {module_name!r}, which the configuration does not allow; "
            f"add {module_name!r} to allow_code if you trust it"
        )
    try:
        found = getattr(import_module(module_name), class_name, None)
    except ImportError as error:
        raise BadArtifact(
            f"module {module_name!r} cannot be imported: {_reason(error)}", trace=str(error)
        ) from error
    if not isinstance(found, type):
        raise BadArtifact(f"module {module_name!r} has no class {class_name!r}")
    return found


def path_of(cls: type) -> str:
    """`package.module:Class` of a class. Raises `BadArtifact` where another process could not import it."""
    if cls.__module__ == "__main__" or "." in cls.__qualname__:
        raise BadArtifact(
            f"class {cls.__qualname__!r} cannot be imported elsewhere: put it into a module of its own"
        )
    return f"{cls.__module__}:{cls.__qualname__}"


def _is_within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def _reason(error: ImportError) -> str:
    """Without Python's own text, which holds paths of this machine."""
    if isinstance(error, ModuleNotFoundError):
        return f"there is no module {error.name!r}"
    return f"it, or a module that it needs, raises {type(error).__name__}" + (
        f" over {error.name!r}" if error.name else ""
    )
