"""Proof, on the machine at hand, that a training that is stopped and resumed ends as if it had never been stopped."""

from pathlib import Path
from typing import Final

from nmt.config import RunConfig
from nmt.dataset import DataDirectory
from nmt.errors import NMTError
from nmt.files import sha256_file
from nmt.manifest import WEIGHTS
from nmt.preparation import PreparationOptions, prepare
from nmt.settings import resolve
from nmt.training.trainer import Trainer

STOPPED_AT: Final = 7
SETTINGS: Final = ["max_updates=12", "eval_every=6", "save_every=4", "log_every=4", "batch_tokens=400"]


def sample_data(folder: Path) -> DataDirectory:
    """A data directory made of the hand-written held-out pairs of the sample corpus."""
    prepare(["sample#test"], ["sample#valid"], [], folder, PreparationOptions(vocab_size=600))
    return DataDirectory.open(folder)


def prove_exact_resume(data: DataDirectory, folder: Path, *, arch: str, device: str) -> RunConfig:
    """Train twice in `folder`, once without and once with a stop; how it was trained.

    Raises:
        NMTError: the models differ.
    """
    flags = {"device": device, "seed": 1}
    config = resolve(arch, preset="tiny", environment={}, overrides=SETTINGS, flags=flags)
    whole, parts = folder / f"{arch}-whole", folder / f"{arch}-parts"
    config = _train(data, config, whole)
    _train(data, config, parts, stop_at=STOPPED_AT)
    _train(data, config, parts, resume=True)
    last = Path("training") / "checkpoints" / f"update-{config.training.max_updates:08}"
    for name in (Path(WEIGHTS), last / "weights.safetensors", last / "optimizer.safetensors"):
        if sha256_file(whole / name) != sha256_file(parts / name):
            raise NMTError(f"{arch}: {name.name} of a resumed training differs from that of one that was never stopped")
    return config


def _train(
    data: DataDirectory, config: RunConfig, out: Path, *, stop_at: int | None = None, resume: bool = False
) -> RunConfig:
    trainer = Trainer(
        data,
        config,
        out,
        report=lambda record: None,
        should_stop=lambda: stop_at is not None and trainer.progress.update >= stop_at,
    )
    trainer.run(resume=resume)
    return trainer.config
