"""The one place where settings are resolved.

Order, later wins: defaults < `--preset` < `--config` file < `NMT_*` environment < flags and `--set`.
"""

import dataclasses
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from nmt.config import ARCHITECTURES, DEFAULT_PRESET, PRESETS, RunConfig, TrainingConfig, check_device_name
from nmt.errors import UsageError, did_you_mean

LARGEST_FILE: Final = 2**20
"""Bytes of a configuration file."""
LARGEST_NUMBER: Final = 2**63
"""Whole numbers are smaller."""
SECTIONS: Final = ("model", "training")
ENVIRONMENT_PREFIX: Final = "NMT_"
RESERVED_ENVIRONMENT: Final = frozenset({"NMT_REAL_DATA"})
"""Variables that begin like a setting and are none."""


def section_types(arch: str) -> dict[str, type[Any]]:
    """The dataclass of each section for an architecture.

    Raises:
        UsageError: no such architecture.
    """
    if arch not in ARCHITECTURES:
        names = ", ".join(ARCHITECTURES)
        raise UsageError(f"unknown architecture '{arch}'{did_you_mean(arch, ARCHITECTURES)}: choose from {names}")
    return {"model": ARCHITECTURES[arch], "training": TrainingConfig}


def resolve(
    arch: str,
    *,
    preset: str | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    stored: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Resolve all layers into one immutable configuration.

    Args:
        arch: `gru`, `attention` or `transformer`.
        preset: a name in `PRESETS[arch]`; `None` takes `small`.
        file: TOML with tables `[model]` and `[training]`, or bare keys.
        environment: `NMT_KEY=VALUE` variables; `None` reads the process's own.
        overrides: `KEY=VALUE`, where KEY is bare or begins with its section (`model.dropout=0.3`).
        flags: values of command-line options by key; `None` values are skipped.
        stored: settings of a run to go on with, as `RunConfig.as_dict` gives them; they take the place of the
            defaults, and of the preset if none is named.

    Raises:
        UsageError: an unknown key, preset or architecture (with the nearest name), or an impossible value.
    """
    types_ = section_types(arch)
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}

    def put(key: str, value: Any, origin: str) -> None:
        section, name = _locate(key, types_, origin)
        values[section][name] = _coerce(types_[section], name, value, origin)

    for section in SECTIONS if stored else ():
        for key, value in (stored or {}).get(section, {}).items():
            put(f"{section}.{key}", value, "stored settings")
    name = preset or (str(stored["preset"]) if stored else DEFAULT_PRESET)
    presets = PRESETS[arch]
    if name not in presets:
        known = ", ".join(presets)
        raise UsageError(f"unknown preset '{name}' for {arch}{did_you_mean(name, presets)}: choose from {known}")
    for key, value in presets[name].items() if preset or not stored else ():
        put(key, value, f"preset {name}")
    for place, key, value in _read_toml(file) if file else ():
        put(key, value, place)
    for variable, value in sorted((os.environ if environment is None else environment).items()):
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in RESERVED_ENVIRONMENT:
            put(variable.removeprefix(ENVIRONMENT_PREFIX).lower(), value, f"environment variable {variable}")
    for key, value in (flags or {}).items():
        if value is not None:
            put(key, value, f"--{key.replace('_', '-')}")
    for assignment in overrides:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write KEY=VALUE")
        put(key.strip(), text.strip(), f"--set {key.strip()}")
    kept = (stored or {}).get("training", {}).get("precision")
    if kept and values["training"].get("precision") == "auto":  # a run keeps what that was for it at first
        values["training"]["precision"] = kept
    check_device_name(values["training"].get("device", "auto"))  # here: `restore` takes what an earlier nmt knew
    return _build(arch, name, values)


def restore(document: Mapping[str, Any]) -> RunConfig:
    """The inverse of `RunConfig.as_dict`; raises `UsageError` for an unknown or impossible key."""
    arch = str(document.get("arch"))
    sections = {name: dict(document.get(name) or {}) for name in SECTIONS}
    return _build(arch, str(document.get("preset")), sections)


def _build(arch: str, preset: str, values: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    built: dict[str, Any] = {}
    for section, cls in section_types(arch).items():
        for key in values[section]:
            _locate(f"{section}.{key}", {section: cls}, "config")
        built[section] = cls(**{key: _coerce(cls, key, value, "config") for key, value in values[section].items()})
    return RunConfig(arch=arch, preset=preset, **built)


def _locate(key: str, types_: Mapping[str, type[Any]], origin: str) -> tuple[str, str]:
    """Section and field name of a key, with or without its section in front."""
    section, dot, name = key.rpartition(".")
    candidates = {s: [f.name for f in dataclasses.fields(cls)] for s, cls in types_.items()}
    for candidate, names in candidates.items():
        if name in names and (not dot or section == candidate):
            return candidate, name
    known = [n for names in candidates.values() for n in names]
    known = [f"{s}.{n}" for s, names in candidates.items() for n in names] if dot else known
    raise UsageError(f"{origin}: unknown key '{key}'{did_you_mean(key, known)}")


def _line_of(key: str, text: str) -> int | None:
    """Number of the one line of a TOML file that seems to set a key."""
    section, _, name = key.rpartition(".")
    table, found = "", []
    for number, line in enumerate(text.split("\n"), 1):
        if heading := re.match(r"\s*\[\s*([\w-]+)\s*\]", line):
            table = heading[1]
        elif setting := re.match(r"""\s*(?:(\w+)\s*\.\s*)?["']?([\w-]+)["']?\s*=""", line):
            found += [number] if (setting[1] or table, setting[2]) == (section, name) else []
    return found[0] if len(found) == 1 else None


def _read_toml(path: Path) -> list[tuple[str, str, Any]]:
    """Place, key and value of every setting."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:
            raise UsageError(f"{path} is larger than {LARGEST_FILE >> 10} KiB: it is no configuration")
        text = data.decode()
        document = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or a number of thousands of digits
        raise UsageError(f"{path} is not TOML: {error}") from error
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            if key not in SECTIONS:
                raise UsageError(f"{path}: unknown table [{key}]{did_you_mean(key, SECTIONS)}")
            flat.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    lines = {key: _line_of(key, text) for key in flat}
    return [(f"{path}:{lines[key]}" if lines[key] else str(path), key, value) for key, value in flat.items()]


def _coerce(cls: type[Any], name: str, value: Any, origin: str) -> Any:
    """`value` as the type of field `name`, from TOML, JSON or text."""
    hint = typing.get_type_hints(cls)[name]
    if isinstance(value, int) and abs(value) >= LARGEST_NUMBER:
        raise UsageError(f"{origin}: {name} is a number too large: it must be less than 2^63")
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value in choices:
            return value
        near = did_you_mean(str(value), choices)
        raise UsageError(f"{origin}: {name} = {value!r} is not one of {', '.join(choices)}{near}")
    assert not isinstance(hint, types.UnionType)
    try:
        if hint is bool:
            return _as_bool(value)
        if hint is str:
            return str(value)
        if isinstance(value, bool):
            raise ValueError
        if hint is int:
            return _as_int(value)
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (ValueError, TypeError, OverflowError):
        kind = {bool: "true or false", int: "a whole number", float: "a finite number"}[hint]
        raise UsageError(f"{origin}: {name} = {value!r} is not {kind}") from None


def _as_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError


def _as_int(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError
    number = int(value) if isinstance(value, int | float) else int(str(value), 10)
    if abs(number) >= LARGEST_NUMBER:
        raise ValueError
    return number


def describe(config: RunConfig) -> list[tuple[str, str, Any, str]]:
    """(section, key, value, help) of every setting, for `--dry-run`; of a choice, the help names what there is."""
    rows = []
    for section in SECTIONS:
        part = getattr(config, section)
        hints = typing.get_type_hints(type(part))
        for item in dataclasses.fields(part):
            told = item.metadata["help"]
            if typing.get_origin(hints[item.name]) is Literal:
                single = [choice for choice in typing.get_args(hints[item.name]) if "+" not in choice]
                told = f"{told}: {', '.join(single)}"
            rows.append((section, item.name, getattr(part, item.name), told))
    return rows
