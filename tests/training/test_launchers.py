"""What accelerate is asked for by its environment and ftrun does not do is refused, naming what works."""

import pytest

from ftrun.errors import ConfigError
from ftrun.runs.typed import command
from ftrun.training.devices import STARTED, open_accelerator, unstarted
from ftrun.training.processes import launchers, ranks
from ftrun.training.processes.launchers import only_cpu, refuse_environment, refuse_other_precision

LAUNCHED = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_USE_CPU": "True",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
}
TWO = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    "environment", [{}, LAUNCHED, TWO, LAUNCHED | TWO, {"PMI_SIZE": "1"}, {"WORLD_SIZE": ""}]
)
def test_what_a_launcher_sets_for_processes_alone_is_taken(environment):
    refuse_environment(environment)
    refuse_other_precision("no", environment)


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "=true asks accelerate for FSDP, .* -m ftrun … train.shard=true;"),
        ({"ACCELERATE_USE_DEEPSPEED": "True"}, "for DeepSpeed, .* torchrun .* train.shard=true"),
        ({"ACCELERATE_USE_MEGATRON_LM": "1"}, "for Megatron-LM, .* train.shard=true"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "context or other parallelism, .* train.shard=true"),
        ({"ACCELERATE_USE_SAGEMAKER": "true"}, "does not train on SageMaker; possible: CPUs and CUDA GPUs"),
        ({"ACCELERATE_USE_TPU": "true"}, "does not train on a TPU"),
        ({"PJRT_DEVICE": "TPU"}, "PJRT_DEVICE=TPU: .* does not train on a TPU"),
        (
            {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
            "=4 would change .* train.batch_size=ROWS with",
        ),
        ({"ACCELERATE_GRADIENT_CLIPPING": "1.0"}, "use train.clip=NORM"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "use train.compile=true"),
        ({"ACCELERATE_TORCH_DEVICE": "meta"}, "use device=DEVICE"),
        (
            {"OMPI_COMM_WORLD_SIZE": "4"},
            "which would do the same; .* torchrun --nproc-per-node 4 -m",
        ),
        ({"PMI_SIZE": "2"}, "torchrun --nproc-per-node 2"),
        (
            LAUNCHED | {"MASTER_ADDR": "127.0.0.1"},
            "MULTI_CPU without mpirun .* torchrun --nproc-per-node 2",
        ),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, but RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "1"}, "but MASTER_ADDR is not set"),
    ],
)
def test_what_would_be_ignored_or_change_numbers_is_refused(environment, said):
    with pytest.raises(ConfigError, match=said) as caught:
        refuse_environment(environment)
    assert "\n" not in str(caught.value)


def test_another_precision_or_device_than_the_settings_say_is_refused():
    refuse_other_precision("bf16", {"ACCELERATE_MIXED_PRECISION": "bf16"})
    with pytest.raises(ConfigError, match="=bf16, but train.precision comes to fp32 .* train.precision=bf16"):
        refuse_other_precision("no", {"ACCELERATE_MIXED_PRECISION": "bf16"})
    assert only_cpu("auto", LAUNCHED) and not only_cpu("cuda:0", {"ACCELERATE_USE_CPU": "False"})
    with pytest.raises(ConfigError, match="device=cuda, but ACCELERATE_USE_CPU=True; possible: device=cpu"):
        only_cpu("cuda", LAUNCHED)


def test_it_is_refused_before_accelerate_looks(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr("accelerate.Accelerator", lambda **words: pytest.fail("accelerate was asked"))
    with pytest.raises(ConfigError, match="DeepSpeed"):
        open_accelerator("cpu", "fp32", True)


def test_a_sweep_opens_one_accelerator_after_another():
    """By accelerate's private AcceleratorState._reset_state, without which the first's precision stays."""
    from accelerate.state import AcceleratorState, PartialState

    assert callable(AcceleratorState._reset_state) and callable(PartialState._reset_state)
    found = [open_accelerator("cpu", precision, False) for precision in ("bf16", "fp32")]
    assert found[1].mixed_precision == "no" and found[1].num_processes == 1


def test_what_the_others_have_no_part_in_is_done_by_an_accelerator_of_one_process(monkeypatch):
    """It would otherwise look for them, as the environment tells of them."""
    for name, value in (TWO | {"LOCAL_RANK": "0", "PMI_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "_ring", type("Ring", (), {"inside": False}))
    assert open_accelerator("cpu", "fp32", False).num_processes == 1
    assert launchers.os.environ["WORLD_SIZE"] == launchers.os.environ["PMI_SIZE"] == "2"
    with unstarted():
        assert not {*STARTED} & {*launchers.os.environ}


@pytest.mark.parametrize(
    "more, words, said",
    [
        ({}, ["resume", "my run"], "torchrun --nproc-per-node 2 -m ftrun resume 'my run'"),
        ({}, ["strategy=lora", "seed=1"], "torchrun --nproc-per-node 2 -m ftrun strategy=lora seed=1"),
        ({}, ["report", "run"], "ftrun report run"),
        ({}, ["compare", "--help"], "ftrun compare --help"),
        ({"WORLD_SIZE": "1"}, ["resume", "run"], "ftrun resume run"),
        (
            {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "node0"},
            ["resume", "run"],
            "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint node0 --nproc-per-node 4"
            " -m ftrun resume run",
        ),
    ],
)
def test_what_continues_is_typed_as_this_process_was_started(monkeypatch, more, words, said):
    for name, value in (TWO | more).items():
        monkeypatch.setenv(name, value)
    assert command(*words) == said
