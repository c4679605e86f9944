"""What ftrun uses of other libraries though they do not promise it: it is named here, and it is there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from contextlib import suppress
from functools import reduce
from pathlib import Path

import pytest

import ftrun
from ftrun.commands._python.results import table
from ftrun.data.hub import hub_data
from ftrun.data.rows import read_rows
from ftrun.errors import ConfigError
from ftrun.tasks.contrastive.views import Views

PACKAGE = Path(ftrun.__file__).parent
NAMES = {  # name → where it is found; what is imported from there counts as well
    "_BatchNorm": ["torch.nn.modules.batchnorm"],
    "_C": ["torch"],
    "_ConvNd": ["torch.nn.modules.conv"],
    "_apply_overrides_to_config": ["hydra._internal.config_loader_impl.ConfigLoaderImpl"],
    "_attn_implementation": ["transformers.PretrainedConfig"],
    "_compiled_call_impl": ["torch.nn.Module"],
    "_disabled_torch_function_impl": ["torch._C"],
    "_dynamo": ["torch"],
    "_foreach_copy_": ["torch"],
    "_init_weights": ["transformers.PreTrainedModel"],
    "_is_view": ["torch.Tensor"],
    "_make_command": ["submitit.slurm.slurm.SlurmInfoWatcher"],
    "_make_wrapper_subclass": ["torch.Tensor"],
    "_model_mapping": [
        "transformers.AutoModel",
        "transformers.AutoModelForCausalLM",
        "transformers.AutoModelForImageClassification",
        "transformers.AutoModelForMaskedLM",
        "transformers.AutoModelForPreTraining",
        "transformers.AutoModelForSequenceClassification",
        "transformers.AutoModelForTextEncoding",
    ],
    "_requeue": ["submitit.slurm.slurm.SlurmJobEnvironment"],
    "_reset_state": ["accelerate.state.AcceleratorState"],
    "_to_copy": ["torch.ops.aten"],
    "_unsafe_view": ["torch.ops.aten"],
}
MADE = {  # name → an object that has it from its beginning
    "_buffers": "torch.nn.Module()",
    "_cdata": "torch.UntypedStorage(0)",
    "_finished": "submitit.slurm.slurm.SlurmInfoWatcher()",
    "_info_dict": "submitit.slurm.slurm.SlurmInfoWatcher()",
    "_modules": "torch.nn.Module()",
    "_name_or_path": "transformers.PretrainedConfig()",
    "_parameters": "torch.nn.Module()",
    "_registered": "submitit.slurm.slurm.SlurmInfoWatcher()",
    "_trial_id": "optuna.trial.create_trial(value=0.0)",
}
READ = {  # what no object has: the library's own code has it in itself
    "_commit_hash": "transformers.configuration_utils",
    "HF_DEACTIVATE_ASYNC_LOAD": "transformers.core_model_loading",
    "_is_hf_initialized": "transformers.core_model_loading",
    "safe_open": "transformers.modeling_utils",
    "print_to_stdstream": "ray._private.worker",
}
MODULES = {  # private modules, and undocumented ones, with what is used of them
    "datasets.packaged_modules.cache.cache": ["Cache"],
    "hydra._internal.config_loader_impl": ["ConfigLoaderImpl", "get_overrides_dirname"],
    "hydra._internal.core_plugins.basic_launcher": ["BasicLauncher"],
    "mlflow.tracking.context.registry": ["resolve_tags"],
    "torch._dynamo": ["config", "reset"],
    "torch._dynamo.exc": ["TorchDynamoException"],
    "torch._inductor": ["config"],
    "torch._subclasses.fake_tensor": ["FakeTensorMode"],
    "torch.utils._python_dispatch": ["TorchDispatchMode"],
    "torch.utils._pytree": ["tree_leaves", "tree_map_only"],
}
EXTRAS = {  # what needs an extra → its call, the module and the extra
    "a data set of the Hub": (lambda _: hub_data("hub:glue:sst2:train"), "datasets", "hub"),
    "one of save_to_disk": (lambda place: read_rows(str(place)), "datasets", "hub"),
    "parquet": (lambda place: read_rows(str(place / "rows.parquet")), "pyarrow", "hub"),
    "a DataFrame": (lambda _: table([{"row": 1}]), "pandas", "hub"),
    "contrastive pre-training": (lambda _: VIEWS.refuse(3, 32), "kornia", "contrastive"),
}
VIEWS = Views(None, 0.5, [0.4, 0.4, 0.4, 0.1], 0.8, 0.2, 0.5, [0.1, 2.0])
PROMISED = {"_asdict", "_exit", "_replace"}  # documented in spite of their names


USED = re.compile(r"[.)]_[a-zA-Z]| _\w+(?:\.\w+)* import")  # what makes a file worth parsing
OWN = re.compile(r"\b(?:def|class) (_\w+)|\bself\.(_\w+)(?=[^=\n]* = |: )|^ +(_\w+)(?=: | = )", re.MULTILINE)


@pytest.mark.parametrize("name", EXTRAS)
def test_what_an_extra_lacks_is_said_with_the_command_that_brings_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, module, extra = EXTRAS[name]
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf" needs {module}: pip install 'ftrun\[{extra}\]'$"):
        call(tmp_path)


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_nothing_private_of_another_library_is_used_but_what_is_named_here() -> None:
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py")}
    own = {name for text in texts.values() for names in OWN.findall(text) for name in names if name}
    known = own | {*NAMES, *MADE, *READ, *PROMISED, "_private"}
    for path, text in texts.items():
        for node in (
            ast.walk(ast.parse(text)) if re.search(r"[.)]_[a-zA-Z]| _\w+(?:\.\w+)* import", text) else ()
        ):
            if isinstance(node, ast.Attribute) and private(node.attr):
                assert node.attr in known, f"{path.name}:{node.lineno}: {ast.unparse(node)}"
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("ftrun"):
                names = [alias.name for alias in node.names]
                if any(private(part) for part in [*(node.module or "").split("."), *names]):
                    named = MODULES.get(node.module or "", [])
                    assert {*names} <= {*named}, f"{path.name}:{node.lineno}: {ast.unparse(node)}"


def found(name: str) -> object:
    """What a dotted name means; the test is skipped where its library is not installed."""
    parts, module = name.split("."), []
    here = pytest.importorskip(parts[0])
    for place in range(len(parts), 1, -1):
        with suppress(ModuleNotFoundError):
            here, module = importlib.import_module(".".join(parts[:place])), parts[1:place]
            break
    return reduce(getattr, parts[1 + len(module) :], here)


@pytest.mark.parametrize(("name", "places"), [*NAMES.items(), *MODULES.items()])
def test_a_private_name_is_there(name: str, places: list[str]) -> None:
    for place in places:
        owner, attribute = (name, place) if name in MODULES else (place, name)
        assert hasattr(found(owner), attribute), f"{owner} has no {attribute}"


@pytest.mark.parametrize(("name", "made"), MADE.items())
def test_an_object_has_its_private_attribute(name: str, made: str) -> None:
    call, _, arguments = made.partition("(")
    given = ast.parse(f"f({arguments}", mode="eval").body
    assert isinstance(given, ast.Call)
    words = {str(word.arg): ast.literal_eval(word.value) for word in given.keywords}
    kind = found(call)
    assert callable(kind) and hasattr(kind(*map(ast.literal_eval, given.args), **words), name), made


@pytest.mark.parametrize(("name", "module"), READ.items())
def test_a_library_reads_what_is_set_for_it(name: str, module: str) -> None:
    place = found(module)
    assert name in inspect.getsource(place), f"{module} knows nothing of {name}"  # type: ignore[arg-type]
