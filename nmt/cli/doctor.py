"""`nmt doctor`: what this machine offers, what is missing, and whether a directory is whole."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from nmt.cli import console
from nmt.errors import ModelError, UsageError

REQUIRED: Final = (
    "numpy",
    "torch",
    "safetensors",
    "sentencepiece",
    "sacrebleu",
    "typer",
    "rich",
    "datasets",
    "jaxtyping",
)
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+).*?extra\s*==\s*['\"](?P<extra>[\w-]+)['\"]")
_MATRIX: Final = 768


def doctor(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(metavar="DIRECTORY...", help="Model, run or data directories to check.", show_default=False),
    ] = None,
    prove_resume: Annotated[
        bool, typer.Option("--prove-resume", help="Train small models, with a stop and without, and compare them.")
    ] = False,
    device: Annotated[
        str | None, typer.Option("--device", help="For --prove-resume: auto, cpu, cuda or cuda:N.", show_default="auto")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what this machine offers; check directories of models, trainings and data.

    Examples:
        nmt doctor
        nmt doctor checkpoints/demo data/demo
        nmt doctor --prove-resume

    A directory is whole when every file has the hash that its manifest says. The first that is not ends the
    command with exit code 3 (data) or 4 (model). For a training it says from which update it would resume.
    """
    if device is not None and not prove_resume:
        raise UsageError("--device is for --prove-resume")
    facts = machine() | {"packages": packages(), "shipped_model": _shipped()}
    checked = [check(path) for path in directories or ()]
    proofs = _prove_resume(device or "auto") if prove_resume else iter(())
    if json_output:
        document = {**facts, "checked": checked, "exact_resume": list(proofs)}
        console.print_json(document)
        _refuse_damage(checked)
        return
    if not checked and not prove_resume:
        _print_machine(facts)
    for entry in checked:
        _print_checked(entry)
    _refuse_damage(checked)
    for proof in proofs:
        how = ", ".join(f"{key} {value}" for key, value in proof.items() if key != "arch")
        console.say(f"{proof['arch']}: stopped and resumed, the same bytes as never stopped ({how})")


def check(path: Path) -> dict[str, Any]:
    """Verify a directory: its `path`, its `kind` and, where a training lies in it, its `checkpoints`.

    `kind` is `model`, `data`, or `run` for a training that has no model to show yet. A model has
    `card_changed` and `export_trouble`. A checkpoint has its `update` and its `trouble`, `None` for a whole one.
    """
    import torch

    from nmt.checkpoint import load_model
    from nmt.cli.info import kind_of
    from nmt.dataset import DataDirectory
    from nmt.files import refuse_closed
    from nmt.manifest import MANIFEST, WEIGHTS
    from nmt.training.state import RunDirectory

    refuse_closed(path, ModelError)
    run = RunDirectory(path)
    begun = (run.path / "run.json").is_file()
    shown = any((path / name).exists() for name in (MANIFEST, WEIGHTS))
    kind = "run" if begun and not shown else kind_of(path)
    if kind == "data":
        DataDirectory.open(path).verify()
    elif kind == "model":
        load_model(path, device=torch.device("cpu"))
    found: dict[str, Any] = {"path": str(path), "kind": kind}
    if kind == "model":
        found["card_changed"] = _card_changed(path)
        found["export_trouble"] = _export_trouble(path)
    if begun:
        run.identity()
        found["checkpoints"] = [{"update": update, "trouble": trouble} for update, trouble in run.examine()]
    return found


def _card_changed(path: Path) -> bool:
    """Whether the card of a model is gone or no longer what was written; people may, and it decides nothing."""
    from nmt.manifest import CARD, read_manifest, verify_file

    try:
        expected = read_manifest(path)["sha256"].get(CARD)
        if expected is not None:
            verify_file(path, CARD, expected)
    except ModelError:
        return True
    return False


def _export_trouble(path: Path) -> str | None:
    """Why a model's export, if it has one, is not used: it is damaged, or of other weights."""
    from nmt.engines.ct2 import read_export, verify_export

    try:
        if export := read_export(path):
            verify_export(path, export)
    except ModelError as error:
        return str(error)
    return None


def _print_checked(entry: dict[str, Any]) -> None:
    path, kind = entry["path"], entry["kind"]
    whole_files = "all files whole but the card, README.md" if entry.get("card_changed") else "all files whole"
    console.say(
        f"{path}: training without a model yet" if kind == "run" else f"{path}: {kind} directory, {whole_files}"
    )
    if entry.get("export_trouble"):
        console.say(f"{path}: its export is not used: {entry['export_trouble']}")
    if "checkpoints" not in entry:
        return
    if not entry["checkpoints"]:
        console.say(f"{path}: training, resumable from the beginning (it was stopped before its first checkpoint)")
        return
    whole = [checkpoint["update"] for checkpoint in entry["checkpoints"] if checkpoint["trouble"] is None]
    where = f"resumable at update {max(whole):,}" if whole else "not resumable: no checkpoint is whole"
    console.say(f"{path}: training, {where} ({len(whole)} of {len(entry['checkpoints'])} checkpoints whole)")


def _refuse_damage(checked: list[dict[str, Any]]) -> None:
    troubles = [c["trouble"] for entry in checked for c in entry.get("checkpoints", ()) if c["trouble"] is not None]
    if troubles:
        raise ModelError("; ".join(troubles))


def _prove_resume(device: str) -> Iterator[dict[str, Any]]:
    """Of each architecture in turn, how it was trained twice with the same outcome."""
    import tempfile

    from nmt.config import ARCHITECTURES
    from nmt.training.proof import prove_exact_resume, sample_data

    with tempfile.TemporaryDirectory(prefix="nmt-") as folder:
        data = sample_data(Path(folder) / "data")
        for arch in ARCHITECTURES:
            console.note(f"{arch}: training with a stop and without")
            options = prove_exact_resume(data, Path(folder), arch=arch, device=device).training
            yield {"arch": arch, "device": options.device, "precision": options.precision}


def machine() -> dict[str, Any]:
    """Facts about the interpreter, the processor, memory, torch and its devices."""
    import platform

    import torch

    import nmt
    from nmt.host import available_cores
    from nmt.nn.device import has_fast_bf16, select_device, select_precision

    cpu = torch.device("cpu")
    device = select_device("auto")
    fp32, bf16 = _matrix_speed(torch.float32), _matrix_speed(torch.bfloat16)
    return {
        "nmt": nmt.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {
            "name": _cpu_name(),
            "cores": available_cores(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "bf16": "fast" if has_fast_bf16(cpu) else "emulated",
            "gflops": {"fp32": round(fp32, 1), "bf16": round(bf16, 1)},
        },
        "memory": _memory(),
        "torch": {
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "cuda_build": torch.version.cuda,
        },
        "cuda": [_cuda_facts(i) for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)],
        "auto": {"device": str(device), "precision": select_precision("auto", device)},
    }


def _matrix_speed(dtype: Any) -> float:
    """GFLOP/s of a matrix product on the CPU, the best of a few; costs about a tenth of a second."""
    import time

    import torch

    left = torch.ones(_MATRIX, _MATRIX, dtype=dtype)
    best, spent = float("inf"), 0.0
    while spent < 0.05:
        start = time.perf_counter()
        torch.mm(left, left)
        elapsed = time.perf_counter() - start
        best, spent = min(best, elapsed), spent + elapsed
    return 2 * _MATRIX**3 / best / 1e9


def _cpu_name() -> str:
    import platform

    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _memory() -> dict[str, int | None]:
    """Bytes of main memory in all and free for use, where the system says so."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"total": None, "available": None}
    sizes = {key: int(value) * 1024 for key, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    return {"total": sizes.get("MemTotal"), "available": sizes.get("MemAvailable")}


def _cuda_facts(index: int) -> dict[str, Any]:
    import torch

    from nmt.nn.device import has_fast_bf16

    properties = torch.cuda.get_device_properties(index)
    return {
        "device": f"cuda:{index}",
        "name": properties.name,
        "memory": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "bf16": "fast" if has_fast_bf16(torch.device("cuda", index)) else "emulated",
    }


def packages() -> list[dict[str, str | None]]:
    """Name, version (`None`: not installed) and extra (`None`: required) of the packages that nmt uses."""
    wanted: dict[str, str | None] = dict.fromkeys(REQUIRED)
    for name, extra in _optional():
        if extra != "dev":
            wanted.setdefault(name, extra)
    return [{"name": name, "version": _version(name), "extra": extra} for name, extra in wanted.items()]


def _optional() -> list[tuple[str, str]]:
    """(package, extra) as nmt's own metadata has them."""
    from importlib.metadata import PackageNotFoundError, requires

    try:
        requirements = requires("nmt") or []
    except PackageNotFoundError:
        return []
    return [(found["name"], found["extra"]) for text in requirements if (found := _REQUIREMENT.match(text))]


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _shipped() -> str | None:
    from nmt.resources import shipped_model

    path = shipped_model()
    return None if path is None else str(path)


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"


def _print_machine(facts: dict[str, Any]) -> None:
    cpu, memory, torch_ = facts["cpu"], facts["memory"], facts["torch"]
    speeds = cpu["gflops"]
    build = f"CUDA {torch_['cuda_build']}" if torch_["cuda_build"] else "CPU build"
    rows = [
        ("nmt", facts["nmt"]),
        ("Python", f"{facts['python']} on {facts['platform']}"),
        ("CPU", f"{cpu['name']}, {cpu['cores']} cores, {cpu['instructions']}"),
        ("Memory", f"{_gib(memory['total'])}, {_gib(memory['available'])} available"),
        (
            "PyTorch",
            f"{torch_['version']} ({build}), {torch_['threads']} thread{'s' if torch_['threads'] != 1 else ''}",
        ),
        ("fp32 on CPU", f"{speeds['fp32']:,.0f} GFLOP/s"),
        ("bf16 on CPU", f"{speeds['bf16']:,.0f} GFLOP/s, {cpu['bf16']}"),
    ]
    for gpu in facts["cuda"]:
        what = f"{gpu['name']}, {_gib(gpu['memory'])}, capability {gpu['capability']}, bf16 {gpu['bf16']}"
        rows.append((gpu["device"], what))
    if not facts["cuda"]:
        hint = "no device is visible" if torch_["cuda_build"] else "this PyTorch build is for CPUs only"
        rows.append(("CUDA", f"none: {hint}"))
    rows.append(("--device auto", f"{facts['auto']['device']}, --precision auto: {facts['auto']['precision']}"))
    rows.append(("Default model", facts["shipped_model"] or "none ships: name one with -m"))
    console.table(rows)
    console.say()
    console.table([(entry["name"], _package_text(entry)) for entry in facts["packages"]])


def _package_text(entry: dict[str, str | None]) -> str:
    if entry["version"] is not None:
        return entry["version"]
    if entry["extra"] is None:
        return "MISSING: install nmt again"
    return f"not installed (optional: pip install 'nmt[{entry['extra']}]')"
