"""What a launcher of processes asks for in the environment, and what of it cannot be: refused, not ignored.

`accelerate launch` sets variables from its configuration (accelerate 1.15, utils/launch.py), which accelerate
reads in every process, whatever ftrun's settings say.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from ftrun.errors import ConfigError

ON = ("true", "1", "yes", "y", "t", "on")
TORCHRUN = "torchrun --nproc-per-node N -m ftrun …"
# what shards or splits a network, with what it is called
SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor, context or other parallelism",
}
MACHINES = {"ACCELERATE_USE_SAGEMAKER": "SageMaker", "ACCELERATE_USE_TPU": "a TPU"}
# what changes numbers: the value that changes none, and ftrun's setting for it
NUMBERS = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": ("1", "train.batch_size=ROWS with train.micro_batch=ROWS"),
    "ACCELERATE_GRADIENT_CLIPPING": ("", "train.clip=NORM"),
    "ACCELERATE_DYNAMO_BACKEND": ("no", "train.compile=true"),
    "ACCELERATE_TORCH_DEVICE": ("", "device=DEVICE"),
}
MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # of Open MPI, MPICH and SLURM, MVAPICH
PRECISION = "ACCELERATE_MIXED_PRECISION"


def refuse_environment(environment: Mapping[str, str] = os.environ) -> None:
    """ConfigError, which names what works, for what the environment asks for and ftrun does not do."""
    for name, what in SHARDING.items():
        if on(environment, name):
            raise ConfigError(
                f"{name}={environment[name]} asks accelerate for {what}, which ftrun does not take from it;"
                f" to shard a network over processes: {TORCHRUN} train.shard=true; to leave it whole:"
                f" {TORCHRUN}, or accelerate launch with a configuration without it"
            )
    for name, what in MACHINES.items():
        if on(environment, name):
            raise ConfigError(
                f"{name}={environment[name]}: ftrun does not train on {what}; possible: CPUs and CUDA GPUs,"
                f" by {TORCHRUN}"
            )
    if environment.get("PJRT_DEVICE", "").upper() == "TPU":
        raise ConfigError(
            f"PJRT_DEVICE=TPU: ftrun does not train on a TPU; possible: CPUs and CUDA GPUs, by {TORCHRUN}"
        )
    for name, (harmless, setting) in NUMBERS.items():
        value = environment.get(name, harmless)
        if value.lower() != harmless:
            raise ConfigError(
                f"{name}={value} would change what is trained behind the settings; unset it, or what sets it"
                f" in the accelerate configuration, and use {setting}"
            )
    refuse_one_of_several(environment)


def refuse_one_of_several(environment: Mapping[str, str]) -> None:
    """ConfigError where processes were asked for that do not know of each other."""
    if int(environment.get("WORLD_SIZE") or 1) > 1:
        if missing := [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in environment]:
            raise ConfigError(
                f"WORLD_SIZE={environment['WORLD_SIZE']}, but {missing[0]} is not set, as torchrun sets it;"
                f" to start several processes: {TORCHRUN}; to start one: unset WORLD_SIZE"
            )
        return
    for name in MPI:
        if int(environment.get(name) or 1) > 1 and "RANK" not in environment:
            raise ConfigError(
                f"{name}={environment[name]}: MPI or srun started {environment[name]} processes, each of"
                " which would do the same; to train one run together: torchrun"
                f" --nproc-per-node {environment[name]} -m ftrun …"
            )
    launched = PRECISION in environment and "ACCELERATE_USE_CPU" in environment
    if launched and "MASTER_ADDR" in environment and "RANK" not in environment:
        raise ConfigError(
            "accelerate launch was to start several processes but started one, as it does for MULTI_CPU"
            f" without mpirun (MASTER_ADDR={environment['MASTER_ADDR']} and no RANK); for two: torchrun"
            " --nproc-per-node 2 -m ftrun …; for one: num_processes: 1 in its configuration"
        )


def refuse_sweep(
    what: str = "-m", how: str = "ftrun -m …", environment: Mapping[str, str] = os.environ
) -> None:
    """ConfigError where several processes were started, which train one run together and not many."""
    if (size := int(environment.get("WORLD_SIZE") or 1)) > 1:
        raise ConfigError(
            f"{what} cannot be combined with several processes, which torchrun and accelerate launch start"
            f" for one run; possible: {how} hydra.launcher.processes={size}, whose every run is {size}"
            " processes"
        )


def refuse_other_precision(precision: str, environment: Mapping[str, str] = os.environ) -> None:
    """ConfigError where accelerate was to compute in another precision than the run does; "no" is fp32."""
    asked = environment.get(PRECISION, "no").lower()
    if asked not in ("no", precision):
        ours = "fp32" if precision == "no" else precision
        raise ConfigError(
            f"{PRECISION}={asked}, but train.precision comes to {ours} here; the run's precision is"
            f" train.precision={asked}, if the device has it; or remove mixed_precision from the accelerate"
            " configuration"
        )


def only_cpu(device: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether accelerate was told to leave GPUs alone; ConfigError where the settings name one."""
    if not on(environment, "ACCELERATE_USE_CPU"):
        return False
    if device.startswith("cuda"):
        raise ConfigError(
            f"device={device}, but ACCELERATE_USE_CPU={environment['ACCELERATE_USE_CPU']}; possible:"
            " device=cpu, or use_cpu: false in the accelerate configuration"
        )
    return True


def on(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ON
