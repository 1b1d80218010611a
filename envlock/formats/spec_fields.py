"""Every field of ``envlock.yaml``: the table that the parser, the JSON Schema and the README's reference share."""

from __future__ import annotations

from envlock.formats import names, places
from envlock.formats.kinds import Choice, Field, Flag, Integer, Many, Named, Problem, Section, Text
from envlock.formats.requirement import BadRequirement, canonical
from envlock.formats.text import quote

LARGEST_SEED = 2**32 - 1  # what NumPy and PYTHONHASHSEED take


def _check_requirement(text: str) -> Problem:
    try:
        canonical(text)
    except BadRequirement as error:
        if text.lstrip().startswith("-"):
            return "is an option and not a requirement", "requirements files are listed under pip.requirements"
        message = error.message.removeprefix(f"{quote(text)} ")
        return message, error.hint
    return None


_REQUIREMENT = Text(
    what="a requirement",
    pattern=r"[A-Za-z0-9][^\x00-\x1f\x7f$`\\|&#{}]*",
    hint="like numpy, numpy==2.1.0 or numpy<3 (PEP 508)",
    check=_check_requirement,
    tidy=canonical,
    longest=2000,
)

_REPOSITORY = Section(
    fields=(
        Field(name="uri", kind=places.WEB_URL, required=True, help="Where the repository is."),
        Field(name="suite", kind=names.SUITE, required=True, help="Its suite, like `bookworm`; a path for a flat one."),
        Field(name="components", kind=Many(of=names.APT_COMPONENT), default=["main"], help="Its components."),
        Field(
            name="key",
            kind=places.RELATIVE_PATH,
            required=True,
            help="File with its signing key (OpenPGP, binary or armoured).",
        ),
    )
)

_APT = Section(
    short="packages",
    fields=(
        Field(
            name="packages",
            kind=Many(of=names.DEB),
            default=[],
            help="Packages by name, or by name and exact version: `git`, `git=1:2.39.5-0+deb12u2`. "
            "The lock pins what they need as well.",
        ),
        Field(
            name="repositories",
            kind=Named(key=names.SOURCE_NAME, of=_REPOSITORY),
            default={},
            help="Further repositories, by a name of your choice, beside those of the base.",
        ),
        Field(
            name="snapshot",
            kind=places.SNAPSHOT_URL,
            help="URL template of the archive's snapshots, with `{timestamp}` and, where it has several archives,"
            " `{archive}`; `as_of` says which one is used.",
        ),
    ),
)

_INDEX = Section(
    short="url",
    fields=(
        Field(
            name="url",
            kind=places.INDEX_URL,
            required=True,
            help="The index's simple API (PEP 503, PEP 691), without credentials: those come from netrc or a keyring.",
        ),
        Field(
            name="packages",
            kind=Many(of=names.PACKAGE),
            default=[],
            help="The packages that come from this index, and from no other. With none, it is asked for every "
            "package that is not bound to an index.",
        ),
    ),
)

_PIP = Section(
    short="packages",
    fields=(
        Field(name="packages", kind=Many(of=_REQUIREMENT), default=[], help="Requirements (PEP 508), like `numpy<3`."),
        Field(
            name="requirements",
            kind=Many(of=places.RELATIVE_PATH),
            default=[],
            help="Requirements files in pip's format. They may include others with `-r` and `-c`.",
        ),
        Field(
            name="constraints",
            kind=Many(of=places.RELATIVE_PATH),
            default=[],
            help="Constraints files: versions for packages that something else asks for.",
        ),
        Field(
            name="indexes",
            kind=Named(key=names.SOURCE_NAME, of=_INDEX),
            default={},
            help="Package indexes, by a name of your choice, beside the default one, which is pip's own setting.",
        ),
        Field(
            name="find_links",
            kind=Named(key=names.SOURCE_NAME, of=places.RELATIVE_PATH),
            default={},
            help="Folders of wheels, by a name of your choice.",
        ),
        Field(
            name="sdist",
            kind=Many(of=names.PACKAGE),
            default=[],
            help="Packages that may be built from source. All others come as wheels, or not at all.",
        ),
        Field(
            name="resolver",
            kind=Choice(options=("pip-tools", "uv")),
            default="pip-tools",
            help="Who resolves; both give the same pins. `uv` needs `envlock[uv]`.",
        ),
    ),
)

_SEED = Integer(low=0, high=LARGEST_SEED)
_SEEDS = Section(
    fields=(
        Field(name="seed", kind=_SEED, help="Becomes `SEED` and `PYTHONHASHSEED`."),
        Field(name="data_seed", kind=_SEED, help="Becomes `DATA_SEED`."),
        Field(
            name="cudnn_deterministic",
            kind=Flag(),
            default=False,
            help="Becomes `CUDNN_DETERMINISTIC`; when true, `CUBLAS_WORKSPACE_CONFIG=:4096:8` as well.",
        ),
    )
)

_IMAGE = Section(
    fields=(
        Field(
            name="repository",
            kind=names.REPOSITORY,
            default_words="`name`",
            help="What the image is called, with the registry that it is pushed to.",
        ),
        Field(
            name="tags",
            kind=Many(of=names.TAG),
            default=[],
            help="Tags beside `env-<12 hex digits of the fingerprint>`, which it always gets.",
        ),
        Field(name="user", kind=names.USER, default="envlock", help="The normal user that containers run as."),
        Field(name="uid", kind=Integer(low=1, high=2**31 - 1), default=1000, help="The user's number."),
        Field(name="workdir", kind=places.WORKDIR, default="/workspace", help="Where containers start."),
        Field(
            name="entrypoint",
            kind=Many(of=names.WORD, unique=False),
            default=[],
            help="The program that containers start, and its arguments.",
        ),
        Field(
            name="labels",
            kind=Named(key=names.LABEL, of=names.VALUE, key_word="label"),
            default={},
            help="Labels beside the OCI ones and the fingerprint, which envlock sets.",
        ),
    )
)

_PROJECT = Section(
    short="include",
    fields=(
        Field(
            name="include",
            kind=Many(of=places.FILE_PATTERN),
            default=[],
            help="Which of the project's files go into the image's `workdir`, as patterns of `.gitignore`.",
        ),
        Field(name="ignore", kind=Many(of=places.FILE_PATTERN), default=[], help="Which of these stay out after all."),
    ),
)

_MLFLOW = Section(
    fields=(
        Field(
            name="tracking_uri",
            kind=places.TRACKING_URI,
            default_words="MLflow's own setting",
            help="Where runs are recorded, without credentials.",
        ),
        Field(
            name="experiment",
            kind=names.TITLE,
            default_words="MLflow's own setting",
            help="Where new runs are created.",
        ),
        Field(
            name="params",
            kind=Many(of=names.PACKAGE),
            default=["torch", "transformers", "peft"],
            help="Packages whose versions become params: `<name>_version`.",
        ),
    )
)

SPEC = Section(
    fields=(
        Field(name="name", kind=names.PROJECT_NAME, required=True, help="What this environment is called."),
        Field(
            name="base",
            kind=names.IMAGE_REFERENCE,
            required=True,
            help="The image to build on: Debian or Ubuntu with Python. A tag, a tag with digest, or an image that only "
            "the engine has. The lock pins it by digest.",
        ),
        Field(
            name="python",
            kind=names.PYTHON_VERSION,
            required=True,
            help="The Python version that the base must have: `3.11` or `3.11.9`.",
        ),
        Field(name="platform", kind=names.PLATFORM, default="linux/amd64", help="What the image is built for."),
        Field(
            name="cuda",
            kind=names.CUDA_VERSION,
            help="The CUDA version that everything must agree on. Without it, the lock still says what it found.",
        ),
        Field(
            name="as_of",
            kind=names.MOMENT,
            help="Take nothing that was published later. A date means the start of that day in UTC.",
        ),
        Field(name="apt", kind=_APT, help="System packages. A list is short for `packages`."),
        Field(name="pip", kind=_PIP, help="Python packages. A list is short for `packages`."),
        Field(
            name="env",
            kind=Named(key=names.VARIABLE, of=names.VALUE, key_word="variable"),
            default={},
            help="Environment variables of the image. Nothing secret: they can be read in the lock and in the image.",
        ),
        Field(name="seeds", kind=_SEEDS, help="Seeds, handed to programs as environment variables."),
        Field(name="image", kind=_IMAGE, help="How the image is called and how it starts."),
        Field(name="project", kind=_PROJECT, help="Your own files. A list is short for `include`; without it, none."),
        Field(name="mlflow", kind=_MLFLOW, help="Where and how runs are recorded."),
    )
)
