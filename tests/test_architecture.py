"""The promise of DESIGN: imports go one way, siblings do not import each other, few modules know tensorflow."""

import abc
import ast
import importlib
import inspect
import pathlib
import pickle
import pkgutil
import pydoc
import typing

import keras
import pytest

import kseq

ROOT = pathlib.Path(__file__).parents[1]
# Each part may import the parts of the lines above its own.
LAYERS = [
    {"version", "backend"},
    {"config", "eager_calls"},
    {"padded_sizes", "compiled_parts"},
    {
        "masking",
        "ids",
        "linear",
        "initializers",
        "numbers",
        "inner_layers",
        "empty_batches",
        "short_help",
        "low_precision",
        "tag_schemes",
        "threefry",
        "whole_files",
    },
    {"engine", "alignment"},
    {"cells", "attention", "losses", "decoding", "heads", "text"},
    {"metrics"},
    {"layers", "frontends"},
    {"models"},
    {"training", "plots"},
    {"export"},
]
SERVER_LAYERS = [
    {"errors"},
    {"budget", "bounded_log", "compression", "admission", "grpc_answers"},
    {"standard_services"},
    {"flags", "metrics", "protocol", "workers"},
    {"models", "client", "ports", "processes"},
    {"batching", "inference", "sibling_metrics"},
    {"core"},
    {"handlers"},
    {"grpc_service", "rest"},
    {"grpc_server"},
    {"server"},
    {"main"},
]
MAY_IMPORT_TENSORFLOW = ("kseq/backend/tensorflow", "kseq/text/", "kseq/export/", "kseq/training/")
FILES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "kseq").rglob("*.py") if path.name != "__init__.py"
)
SERVER_FILES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "serving").rglob("*.py") if path.name != "__init__.py"
)


def imported_modules(path: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def level(part: str, layers: list[set[str]] = LAYERS) -> int:
    return next(index for index, parts in enumerate(layers) if part in parts)


@pytest.mark.parametrize("path", FILES)
def test_imports_go_one_way(path):
    own = path.split("/")[1].removesuffix(".py")
    parts = {name.split(".")[1] for name in imported_modules(path) if name.startswith("kseq.")}
    for part in parts - {own}:
        assert level(part) < level(own), f"{path} imports kseq.{part}, which is not below kseq.{own}"


@pytest.mark.parametrize("path", FILES)
def test_only_a_few_modules_know_tensorflow(path):
    knows = {name.split(".")[0] for name in imported_modules(path)} & {"tensorflow", "tensorflow_text", "jax"}
    allowed = path.startswith(MAY_IMPORT_TENSORFLOW) or path.startswith("kseq/backend/jax")
    assert allowed or not knows, f"{path} imports {knows}"


def test_the_server_knows_nothing_of_kseq():
    for path in (ROOT / "serving" / "kseq_serving").rglob("*.py"):
        names = imported_modules(path.relative_to(ROOT).as_posix())
        assert not any(name == "kseq" or name.startswith("kseq.") for name in names), path


@pytest.mark.parametrize("path", SERVER_FILES)
def test_imports_of_the_server_go_one_way(path):
    own = path.split("/")[2].removesuffix(".py")
    parts = {part.name for part in (ROOT / "serving" / "kseq_serving").iterdir()}
    named = {name.split(".")[1] for name in imported_modules(path) if name.startswith("kseq_serving.")}
    for part in {name for name in named if {name, f"{name}.py"} & parts} - {own}:
        assert level(part, SERVER_LAYERS) < level(own, SERVER_LAYERS), f"{path} imports {part}, not below {own}"


def test_the_files_that_are_looked_at_are_all_there():
    assert {"kseq/engine/recurrence.py", "kseq/cells/lstm.py", "kseq/decoding/ctc/search.py"} <= set(FILES)
    assert {"serving/kseq_serving/core.py", "serving/kseq_serving/rest/api.py"} <= set(SERVER_FILES)


@pytest.mark.parametrize("path", [*FILES, *SERVER_FILES])
def test_files_stay_short(path):
    assert len((ROOT / path).read_text().splitlines()) <= 400, path
    assert pathlib.Path(path).name != "utils.py"


def public_names() -> dict[str, tuple]:
    """Return every package with a list of public names, by name, with its public classes and functions."""
    packages = ["kseq", *(found.name for found in pkgutil.walk_packages(kseq.__path__, "kseq.") if found.ispkg)]
    modules = {name: importlib.import_module(name) for name in packages}
    return {name: (module, [getattr(module, each) for each in module.__all__]) for name, module in modules.items()}


def test_dir_of_a_package_has_its_public_names_only():
    for name, (module, _) in public_names().items():
        assert sorted(dir(module)) == sorted(module.__all__), name


def test_public_classes_and_functions_have_real_signatures():
    public = {each for _, values in public_names().values() for each in values if callable(each)} - {typing.Any}
    for each in public:
        parameters = inspect.signature(each).parameters.values()
        hidden = all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
        assert not parameters or not hidden, f"{each} hides its arguments: {inspect.signature(each)}"


class TestHelp:
    """`help` of classes whose bases in Keras have hundreds of lines."""

    @pytest.mark.parametrize(
        ("kind", "lines"), [(kseq.models.Seq2Seq, 430), (kseq.layers.LSTM, 200), (kseq.cells.GRUCell, 250)]
    )
    def test_is_short(self, kind, lines):
        text = pydoc.render_doc(kind, renderer=pydoc.plaintext)
        assert text.count("\n") < lines
        assert "add_weight" not in text
        for name in inspect.signature(kind).parameters:
            assert name in text

    def test_has_what_users_call(self):
        text = pydoc.render_doc(kseq.models.Seq2Seq, renderer=pydoc.plaintext)
        for name in ("fit", "evaluate", "predict", "compile", "save", "decode"):
            assert f" |  {name}(self" in text
        assert "fit(self, x=None, y=None, batch_size=None" in text

    def test_subclasses_may_have_other_metaclasses_and_all_attributes(self):
        class Named(typing.Protocol):
            name: str

        class Layer(kseq.layers.LSTM, Named, abc.ABC):
            """A subclass of a class with this metaclass, a protocol and an ABC."""

        class Meta(type):
            """A user's metaclass, joined with kseq's as the docstring of `ShortHelp` says."""

            def __new__(cls, name, bases, members):
                return super().__new__(cls, name, bases, {**members, "mark": name})

        class Joined(Meta, type(kseq.layers.LSTM)):
            """Both."""

        class Marked(kseq.layers.LSTM, metaclass=Joined):
            """A subclass with both."""

        assert Marked(3).mark == "Marked"
        assert "add_weight" not in dir(Marked)
        layer = Layer(3)
        assert isinstance(layer, kseq.layers.RNN)
        assert not isinstance(3, kseq.layers.RNN)
        assert issubclass(Layer, kseq.layers.LSTM)
        assert "add_weight" in dir(layer)
        assert Layer.add_weight is keras.layers.Layer.add_weight
        assert pickle.loads(pickle.dumps(kseq.layers.LSTM)) is kseq.layers.LSTM
