from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from envlock.errors import SpecError, UsageError
from envlock.formats.requested import read_requested
from envlock.formats.spec_yaml import parse_spec
from envlock.init import Choices, Found, LeftOut, as_name, from_live, read_source, spec_text
from envlock.init.conda_names import CUDA, QUIET, RENAMED, SAME
from envlock.model.image import Installed
from envlock.model.live import LiveEnvironment

NOTHING = Choices()


def no_files(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def read(text: str, file: str, **options):
    options.setdefault("read", no_files)
    return read_source(text, file=file, **options)


def spec_of(found: Found, choices: Choices = NOTHING, folder: str = "demo"):
    return parse_spec(spec_text(found, choices=choices, folder=folder))


def whats(found: Found) -> list[str]:
    return [item.what for item in found.left_out]


# --- requirements files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["requirements.in", "requirements.txt", "deps/train.txt"])
def test_a_requirements_file_is_named(file):
    found = read("numpy<3\ntorch==2.1.2+cu118\n", file)
    assert spec_of(found).pip.requirements == (file,)
    assert found.left_out == ()


def test_a_requirements_file_that_envlock_does_not_take_is_taken_apart():
    text = (
        "--index-url https://me:secret@one.example.org/simple\n--extra-index-url https://me:secret@two.example.org/whl\n"
        "-f ./wheels\n-f https://three.example.org/\n-e .\nnumpy<3\ntorch==2.1.2+cu118\n-r more.txt\n-c limits.txt\n"
        "x @ git+https://me:secret@git.example.org/x\n"
    )
    found = read(
        text, "requirements.txt", read=lambda path: {"more.txt": "rich\n-r requirements.txt\n", "limits.txt": ""}[path]
    )
    spec = spec_of(found)
    assert spec.pip.packages == ("numpy<3", "torch==2.1.2+cu118", "rich")
    assert spec.pip.constraints == ("limits.txt",)
    assert [(index.name, index.url, index.packages) for index in spec.pip.indexes] == [
        ("extra", "https://two.example.org/whl", ("torch",))
    ]
    assert [folder.path for folder in spec.pip.find_links] == ["wheels"]
    assert [what.split()[0] for what in whats(found)] == ["--index-url", "--extra-index-url", "-f", "-e", "x"]
    assert "secret" not in spec_text(found, choices=NOTHING, folder="x")
    assert "secret" not in str(found)


def test_a_missing_include_is_said():
    found = read("numpy\n-r gone.txt\n", "requirements.txt")
    assert spec_of(found).pip.packages == ("numpy",)
    assert whats(found) == ["-r gone.txt"]


def test_what_init_writes_can_be_read_with_its_files():
    text = spec_text(read("numpy<3\n", "requirements.in"), choices=NOTHING, folder="demo")
    requested = read_requested(text.encode(), read=lambda path: {"requirements.in": b"numpy<3\n"}[path])
    assert requested.requirements == ("numpy<3",)


# --- pyproject.toml ---------------------------------------------------------------------------------------------------

PYPROJECT = """
[project]
name = "My_Demo.App"
requires-python = ">=3.12"
dependencies = ["numpy<3", "Rich", "x @ https://me:secret@files.example.org/x.whl", "not valid!"]
[project.optional-dependencies]
Train = ["torch[opt]>=2 ; python_version > '3.8'"]
all = ["my-demo-app[train,all]"]
[dependency-groups]
dev = ["pytest", {include-group = "lint"}]
lint = ["ruff", {include-group = "dev"}]
[tool.uv.sources]
torch = {index = "x"}
"""


def test_pyproject():
    found = read(PYPROJECT, "pyproject.toml")
    spec = spec_of(found)
    assert (spec.name, spec.python, spec.base) == ("my-demo-app", "3.12", "python:3.12-slim-bookworm")
    assert spec.pip.packages == ("numpy<3", "rich")
    assert whats(found) == [
        "x @ https://***@files.example.org/x.whl", "not valid!", "[tool.uv.sources]", "extra Train", "extra all",
        "dependency group dev", "dependency group lint",
    ]  # fmt: skip


def test_pyproject_with_extras_and_groups():
    found = read(PYPROJECT, "pyproject.toml", extras=["all"], groups=["DEV"])
    assert spec_of(found).pip.packages == (
        "numpy<3", "rich", "pytest", "ruff", 'torch[opt]>=2; python_version > "3.8"',
    )  # fmt: skip


def test_pyproject_of_other_tools_is_said():
    found = read(
        '[project]\nname = "x"\ndynamic = ["dependencies"]\n[tool.poetry.dependencies]\na = "1"\n', "pyproject.toml"
    )
    assert whats(found) == ["dependencies (dynamic)", "[tool.poetry.dependencies]"]
    assert spec_of(found).pip.packages == ()


@pytest.mark.parametrize(
    ("requires", "python"),
    [
        (">=3.8", "3.11"),
        ("<3.11", "3.10"),
        (">=3.10.2,<3.11", "3.10"),
        ("~=3.13", "3.13"),
        ("==2.7", None),
        ("x", None),
    ],
)
def test_requires_python(requires, python):
    assert read(f'[project]\nname = "x"\nrequires-python = "{requires}"\n', "pyproject.toml").python == python


def test_what_pyproject_does_not_have():
    with pytest.raises(UsageError) as caught:
        read(PYPROJECT, "pyproject.toml", extras=["nope"])
    assert caught.value.hint == "it has: all, train"
    with pytest.raises(UsageError):
        read("numpy\n", "requirements.in", groups=["dev"])
    with pytest.raises(SpecError, match="1 fault"):
        read("[project\n", "pyproject.toml")


# --- conda ------------------------------------------------------------------------------------------------------------

EXPORT = """\
# This file may be used to create an environment using:
# $ conda create --name <env> --file <this file>
# platform: linux-aarch64
_libgcc_mutex=0.1=conda_forge
ca-certificates=2023.08.22=h06a4308_0
cudatoolkit=11.8.0=h6a678d5_0
numpy=1.24.3=py310h5f9d8c6_1
openssl=1.1.1w=h7f8727e_0
pip=23.3=py310h06a4308_0
python=3.10.13=h955ad1f_0
pytorch=2.1.2=py3.10_cuda11.8_cudnn8.7.0_0
transformers=4.36.2=pypi_0
llamafactory=0.9.3=pypi_0
in-house=1.0=pyhd8ed1ab_0
"""


@pytest.mark.parametrize("file", ["environment.yml", "conda.txt", "requirements.txt"])
def test_conda_list_export_whatever_it_is_called(file):
    found = read(EXPORT, file)
    spec = spec_of(found)
    assert (spec.python, spec.base, spec.cuda) == ("3.10", "python:3.10.13-slim-bookworm", "11.8")
    assert spec.platform == "linux/arm64"
    assert spec.pip.packages == (
        "numpy==1.24.3", "torch==2.1.2", "transformers==4.36.2", "llamafactory==0.9.3", "in-house==1.0",
    )  # fmt: skip
    assert found.assumed == ("in-house",)
    assert [what.split("=")[0] for what in whats(found)] == [
        "_libgcc_mutex", "ca-certificates", "openssl", "pytorch's build for CUDA 11.8",
    ]  # fmt: skip


ENVIRONMENT = """\
name: vision
channels: [defaults, https://conda.example.org/in-house]
dependencies:
  - python=3.10
  - numpy=1.24
  - pytorch::pytorch=2.1.2=py3.10_cuda11.8_0
  - pytorch-cuda=11.8
  - scipy >=1.10,<2
  - scikit-learn 1.3.*
  - conda-forge::pandas[version='>=2']
  - tqdm==4.66.1
  - libfoo
  - in-house
  - pip
  - pip:
    - peft==0.7.1
    - -r more.txt
    - git+https://me:secret@git.example.org/x
variables: {OMP_NUM_THREADS: 4, WANDB_API_KEY: hidden, PATH: /x, SEED: 7}
prefix: /home/me/conda
"""


@pytest.mark.parametrize("file", ["environment.yml", "environment.yaml"])
def test_conda_environment(file):
    found = read(ENVIRONMENT, file, read=lambda path: {"more.txt": "rich\n"}[path])
    spec = spec_of(found)
    assert (spec.name, spec.python, spec.cuda) == ("vision", "3.10", "11.8")
    assert spec.pip.packages == (
        "numpy==1.24.*", "torch==2.1.2", "scipy<2,>=1.10", "scikit-learn==1.3.*", "pandas>=2", "tqdm==4.66.1",
        "peft==0.7.1", "rich",
    )  # fmt: skip
    assert spec.env == {"OMP_NUM_THREADS": "4", "SEED": "7"}
    assert spec.seeds.seed is None
    text = spec_text(found, choices=NOTHING, folder="x")
    assert "hidden" not in text
    assert "secret" not in text
    assert "/home/me" not in text
    for what in ("libfoo", "in-house", "git+https", "channel", "WANDB_API_KEY", "PATH"):
        assert any(what in item for item in whats(found)), what


def test_a_cuda_that_only_the_build_of_pytorch_says():
    found = read("python=3.11.5=h955ad1f_0\npytorch=2.1.2=py3.11_cuda11.8_cudnn8.7.0_0\n", "conda.txt")
    assert spec_of(found).cuda == "11.8"
    assert "pytorch's build for CUDA 11.8" in whats(found)


def test_what_is_no_conda_file():
    with pytest.raises(SpecError) as caught:
        read("just text\n", "environment.yml")
    assert "neither a conda environment.yml nor" in caught.value.details[0]
    with pytest.raises(SpecError):
        read("a: 1\na: 2\n", "environment.yml")


def test_the_tables_of_names_do_not_contradict_each_other():
    assert not (RENAMED.keys() | SAME) & (CUDA | QUIET)
    assert not RENAMED.keys() & SAME
    assert all(target == canonicalize_name(target) for target in (*RENAMED.values(), *SAME))


# --- the running environment ------------------------------------------------------------------------------------------


def live(**changes) -> LiveEnvironment:
    packages = {"numpy": "1.26.4", "pip": "24.0", "envlock": "1", "mine": "0.1", "odd": "not a version"}
    values = {
        "installed": Installed(python_version="3.11.9", packages=packages, freeze=""),
        "executable": "/home/me/venv/bin/python",
        "prefix": "/home/me/venv",
        "implementation": "cpython",
        "platform": "linux/amd64",
        "libc": "glibc 2.36",
        "os": "Debian",
        "direct": {"mine": "editable"},
    }
    return LiveEnvironment(**{**values, **changes})


def test_from_live():
    found = from_live(live())
    spec = spec_of(found)
    assert spec.pip.packages == ("numpy==1.26.4",)
    assert (spec.python, spec.base) == ("3.11", "python:3.11.9-slim-bookworm")
    assert whats(found) == ["mine 0.1", "odd not a version"]
    assert "/home/me" not in spec_text(found, choices=NOTHING, folder="x")


def test_from_live_on_another_system():
    found = from_live(live(platform="darwin/arm64"))
    assert spec_of(found).platform == "linux/amd64"
    assert "platform darwin/arm64" in whats(found)


# --- the text ---------------------------------------------------------------------------------------------------------


def test_choices_go_first():
    found = Found(source="x", name="found", python="3.10", python_full="3.10.2")
    spec = spec_of(found, Choices(name="chosen", base="registry.example.org/base:1", python="3.12"))
    assert (spec.name, spec.base, spec.python) == ("chosen", "registry.example.org/base:1", "3.12")
    assert spec_of(found, Choices(base="envlock/base:py3.13")).python == "3.13"
    assert spec_of(found, Choices(python="3.12")).base == "python:3.12-slim-bookworm"


@pytest.mark.parametrize(
    "choices", [Choices(name="A b"), Choices(base="a b"), Choices(python="3"), Choices(base="a\nb: c")]
)
def test_choices_that_cannot_be(choices):
    with pytest.raises(UsageError, match=r"^--"):
        spec_text(Found(source="x"), choices=choices, folder="demo")


@given(what=st.text(), why=st.text(), source=st.text())
def test_nothing_that_was_found_can_leave_its_comment(what, why, source):
    found = Found(source=source, python_why=why, left_out=(LeftOut(what=what, why=why),))
    assert spec_of(found) == spec_of(Found(source="x"))


@given(
    st.lists(st.sampled_from(["numpy<3", "a[b,c]==1.*", 'x; python_version < "3"', "null", "n", "y<2,>1"]), unique=True)
)
def test_requirements_survive_the_text(packages):
    assert spec_of(Found(source="x", packages=tuple(packages))).pip.packages == tuple(packages)


@given(st.text())
def test_any_file_is_read_or_refused(text):
    for file in ("requirements.txt", "pyproject.toml", "environment.yml"):
        try:
            found = read(text, file)
        except SpecError:
            continue
        spec_of(found)


@given(
    st.lists(
        st.sampled_from(
            [
                "name: x\n",
                "dependencies:\n",
                "  - python=3.10\n",
                "  - numpy=1.2=py310_0\n",
                "numpy=1.2=py310_0\n",
                "  - pip:\n",
                "    - -r x\n",
                "    - torch==2+cu118\n",
                "variables: {PATH: 1, SEED: 2, A: [1]}\n",
                "  - a::b[version='>1']\n",
                "  - '!'\n",
                "  - cuda-version=x\n",
                "  - pytorch=1.*\n",
                "  - {pip: 5}\n",
                "channels: 5\n",
                "# platform: win-64\n",
            ]
        )
    )
)
def test_nearly_any_conda_file_is_read_or_refused(lines):
    try:
        found = read("".join(lines), "environment.yml")
    except SpecError:
        return
    spec_of(found)


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Project!", "my-project"), ("żółw", "w"), ("---", None), ("", None), (None, None), ("a" * 200, "a" * 100)],
)
def test_names(text, name):
    assert as_name(text) == name
