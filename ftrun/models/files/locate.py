"""Where a pretrained checkpoint lies: inside the package, in a directory, or on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftrun import ASSETS
from ftrun.data.hub import REACH, unreachable, within_patience
from ftrun.errors import ConfigError
from ftrun.models.few_bits.half import KEY as FROZEN
from ftrun.models.few_bits.quantized import KEY as LOADED
from ftrun.models.files.reading import CONFIG, read_config, stored
from ftrun.models.recalibration import KEY
from ftrun.runs.artifacts import BOTTLENECKS, LORA, MERGED, told_beside, update_in
from ftrun.runs.manifest import verify
from ftrun.runs.run import is_run
from ftrun.runs.typed import command

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from ftrun.settings.schema import ModelSettings

WHOLE = ("model.safetensors", "model.safetensors.index.json")  # the weights, or where they are
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass
class Checkpoint:
    """A checkpoint that exists: its name for `from_pretrained`, and the options to pass along."""

    name: str
    options: dict[str, Any]
    asked: str = ""  # how the person wrote it

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"model.name={self.asked or self.name}"

    def config(self, head: dict[str, Any]) -> PretrainedConfig:
        """Its configuration, with the head of a task; ConfigError where it is damaged."""
        config = read_config(self.name, self.label, **self.options)
        config.__dict__.pop(KEY, None)  # a calibration is of the weights as they are, not of what they become
        for name in (LOADED, FROZEN):  # likewise
            config.__dict__.pop(name, None)
        config.update(head)
        return config

    def file(self, name: str) -> Path | None:
        """The path of one of its small files, fetched from the Hub if need be; None if it has none like it.

        Raises what `unreachable` lists when only the Hub knows, and it does not answer.
        """
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        directory, revision = Path(self.name), self.options.get("revision")
        if directory.is_dir():
            return directory / name if (directory / name).is_file() else None
        known = try_to_load_from_cache(self.name, name, revision=revision)
        if known is not None:  # a path, or a mark that there is no such file
            return Path(known) if isinstance(known, str) else None
        try:
            return Path(within_patience(lambda: hf_hub_download(self.name, name, revision=revision)))
        except LocalEntryNotFoundError:
            raise  # it is not in the cache, and the Hub was not asked
        except EntryNotFoundError:
            return None

    def cached(self, name: str) -> Path | None:
        """The path of one of its files if it is on this machine, be it in the Hub's cache."""
        from huggingface_hub import try_to_load_from_cache

        if (directory := Path(self.name)).is_dir():
            return directory / name if (directory / name).is_file() else None
        if directory.is_absolute():  # it is gone
            return None
        found = try_to_load_from_cache(self.name, name, revision=self.options.get("revision"))
        return Path(found) if isinstance(found, str) else None


def locate(settings: ModelSettings, weightless: bool = False) -> Checkpoint:
    """The checkpoint of `model.name`; ConfigError where there is none or its weights cannot be used.

    With `weightless` there need be none but a configuration.
    """
    options: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code}
    directory = local(settings.name)
    if directory is None:
        return Checkpoint(settings.name, options | on_hub(settings), settings.name)
    verify(directory)
    if settings.init == "pretrained" and (own := adapter_in(directory)):
        directory = merged(settings.name, directory, own)
    if is_run(directory):
        raise ConfigError(
            f"model.name={settings.name} is a run without a saved model: {directory / 'model'} is missing;"
            " possible: a finished run, or ftrun resume for one that is not"
        )
    if not (directory / CONFIG).is_file():
        raise ConfigError(f"model.name={settings.name} is not a checkpoint: it has no config.json")
    if settings.init == "pretrained" and not weightless and not has_weights(directory):
        pickled = [name for name in PICKLES if (directory / name).is_file()]
        why = f"only {pickled[0]}, and pickles are not loaded" if pickled else "no *.safetensors"
        raise ConfigError(
            f"model.name={settings.name} has no usable weights: {why}; model.init=random needs none"
        )
    return Checkpoint(str(directory), options, settings.name)


def has_weights(directory: Path) -> bool:
    return any(directory.glob("*.safetensors"))


def local(name: str) -> Path | None:
    """The directory that a name means, a run's `model/` included; None when it is a Hub name."""
    if name.startswith("embedded:"):
        directory = ASSETS / name.removeprefix("embedded:")
        if not (directory / CONFIG).is_file():
            there = ", ".join(f"embedded:{file.parent.name}" for file in sorted(ASSETS.glob("*/config.json")))
            raise ConfigError(f"model.name={name}: the package embeds only {there}")
        return directory
    directory = Path(name).expanduser()
    if directory.is_dir():
        return (directory / "model" if (directory / "model").is_dir() else directory).absolute()
    if directory.exists():
        raise ConfigError(
            f"model.name={name} is a file; give the directory that holds config.json and the weights"
        )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ConfigError(f"model.name={name}: no such directory")
    return None


def adapter_in(directory: Path) -> str | None:
    """The file that says of a directory that it holds adapters beside another checkpoint."""
    return next((name for name in (LORA, BOTTLENECKS) if (directory / name).is_file()), None)


def unmerged(name: str) -> Path | None:
    """The run that a name means if its model is a LoRA which `ftrun merge` has not made a network of yet."""
    directory = local(name)
    if directory is None or adapter_in(directory) != LORA or not is_run(directory.parent):
        return None
    return None if (directory.parent / MERGED).exists() else run_of(name)


def run_of(name: str) -> Path:
    """The run directory that a name means or whose `model/` it means, as it was written."""
    place = Path(name).expanduser()
    return place if (place / "model").is_dir() else place.parent


def merged(name: str, directory: Path, own: str) -> Path:
    """The whole network that `ftrun merge` has made of an adapter's run; ConfigError where it has not."""
    if own == BOTTLENECKS:
        raise ConfigError(
            f"model.name={name}: {told_beside(directory)} and cannot be folded into the weights; possible: a"
            " run of another strategy"
        )
    what = update_in(directory)
    if not is_run(directory.parent):
        raise ConfigError(
            f"model.name={name} holds {what} and not the network it belongs to; possible: a run, or what"
            " `ftrun merge` and `ftrun compose --merge` make"
        )
    run, place = run_of(name), directory.parent / MERGED
    if not (place / CONFIG).is_file():
        raise ConfigError(f"model.name={name} holds {what}; to make a network of it: {command('merge', run)}")
    config = stored(place / CONFIG)
    kind = config.get("dtype") or config.get("torch_dtype") or "float32"
    if kind != "float32":
        raise ConfigError(
            f"model.name={name} holds {what}, and {run / MERGED} is cast to {kind};"
            f" possible: model.name={run / MERGED}"
        )
    verify(place)
    return place


def on_hub(settings: ModelSettings) -> dict[str, Any]:
    """Options to load from the Hub or its cache; one line within seconds when neither has the model."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    options = {"revision": settings.revision} if settings.revision else {}
    cached = (try_to_load_from_cache(settings.name, file, revision=settings.revision) for file in WHOLE)
    if any(isinstance(file, str) for file in cached):
        return options | {"local_files_only": True}
    try:
        within_patience(lambda: HfApi().model_info(settings.name, revision=settings.revision, timeout=REACH))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ConfigError(
            f"model.name={settings.name}: neither a directory nor a model on the Hub"
        ) from error
    except unreachable() as error:
        raise ConfigError(
            f"model.name={settings.name}: no such directory, and the Hub cannot be reached, nor is a"
            " copy cached; possible: model.name=DIR, a checkpoint or a run, or what comes with ftrun:"
            " model=tiny_bert for texts, model=resnet_small for images, model=gpt2_small_random for task=lm"
        ) from error
    return options
