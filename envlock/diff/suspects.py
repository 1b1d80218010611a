"""How likely a difference is to move a result: from 100 (look here first) down to 0.

A curated judgement, not a measurement. What computes stands above what feeds it, what feeds it above what is around
it; and the further apart two versions are, the likelier they are to compute something else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from envlock.formats.secrets import is_secret
from envlock.model.plan import PROJECT_LABEL

# What does the arithmetic, or decides in which order it is done.
_NUMERIC = re.compile(
    r"torch|torchvision|torchaudio|tensorflow(-cpu|-gpu|-intel)?|keras|jax|jaxlib|flax|optax|numpy|scipy|scikit-learn|"
    r"xgboost(-cpu)?|lightgbm|catboost|transformers|peft|accelerate|bitsandbytes|flash-attn|xformers|triton|trl|deepspeed|"
    r"unsloth|llamafactory|diffusers|sentence-transformers|timm|pytorch-lightning|lightning|onnxruntime(-gpu)?|mkl|"
    r"intel-openmp|numba|llvmlite|cupy(-cuda1[0-9]x)?|statsmodels|vllm|apex|transformer-engine|optimum|auto-gptq|autoawq|"
    r"nvidia-(cudnn|cublas|cufft|curand|cusolver|cusparse|cusparselt|nccl|cuda-runtime|cuda-nvrtc)(-cu[0-9]+)?"
)
# What prepares the data, or measures the result.
_DATA = re.compile(
    r"datasets|tokenizers|sentencepiece|tiktoken|pandas|polars|pyarrow|evaluate|torchmetrics|sacrebleu|rouge-score|nltk|"
    r"spacy|gensim|opencv-python(-headless)?|pillow|scikit-image|albumentations|librosa|soundfile|soxr|h5py|einops|"
    r"safetensors|huggingface-hub|imbalanced-learn|networkx|sympy|joblib|threadpoolctl|nvidia-.*|ml-dtypes|opt-einsum|"
    r"hydra-core|omegaconf|webdataset|torchdata|ray"
)
# What builds, tests, reports or talks to servers.
_TOOLING = re.compile(
    r"pip|setuptools|wheel|build|pip-tools|uv|virtualenv|pytest.*|coverage|tox|nox|ruff|black|isort|flake8|mypy.*|pylint|"
    r"pre-commit|types-.*|sphinx.*|jupyter.*|notebook|ipython|ipykernel|ipywidgets|nbformat|nbconvert|mlflow.*|wandb|"
    r"tensorboard.*|tqdm|rich|click|typer|colorama|pygments|requests.*|urllib3|certifi|idna|charset-normalizer|httpx|"
    r"httpcore|aiohttp|anyio|flask.*|fastapi|uvicorn|gunicorn|starlette|werkzeug|jinja2|markupsafe|boto3|botocore|"
    r"s3transfer|google-.*|azure-.*|docker|gitpython|gitdb|smmap|sqlalchemy|alembic|mako|greenlet|matplotlib.*|seaborn|"
    r"fonttools|kiwisolver|cycler|contourpy|plotly|opentelemetry-.*|prometheus.*|cryptography|debugpy"
)
_SYSTEM_NUMERIC = re.compile(
    r"lib(open|mkl-?|atlas.*|a?)?blas.*|libopenblas.*|liblapack.*|libmkl.*|intel-mkl.*|libc6|libstdc\+\+6|libgomp1|libgcc-s1|"
    r"libgfortran.*|libm[0-9].*|libcudnn.*|libcublas.*|libcufft.*|libcurand.*|libcusolver.*|libcusparse.*|libcudart.*|"
    r"libnccl.*|cuda-.*|nvidia-(driver|cuda).*|libnvidia-.*|libcuda1|libopenmpi.*|libfftw3.*|libsleef.*|libtbb.*"
)
_SYSTEM_DATA = re.compile(
    r"libjpeg.*|libpng.*|libtiff.*|libwebp.*|ffmpeg|libav.*|libsndfile.*|libsox.*|locales|tzdata|libicu.*"
)
_VARIABLE = re.compile(
    r"(OMP|MKL|OPENBLAS|NUMEXPR|VECLIB|BLIS|KMP)_.*|PYTHONHASHSEED|CUBLAS_WORKSPACE_CONFIG|CUDA_(?!VERSION).*|NVIDIA_.*|TF_.*|"
    r"TORCH.*|PYTORCH.*|XLA_.*|JAX_.*|NCCL_.*|LD_PRELOAD|LD_LIBRARY_PATH|PYTHONPATH|TOKENIZERS_PARALLELISM|ACCELERATE_.*|"
    r"TRANSFORMERS_.*|HF_.*"
)
_PLACE = re.compile(
    r"PATH|HOME|PWD|HOSTNAME|TERM|SHLVL|GPG_KEY|PYTHON_(VERSION|SHA256|PIP_VERSION)|DEBIAN_FRONTEND|PIP_.*"
)

_JUMPS = {
    "major": 1.0,
    "minor": 0.9,
    "patch": 0.7,
    "local": 0.85,  # +cu118 → +cu121 are other kernels
    "build": 0.5,
    "changed": 0.9,
    "added": 0.8,
    "removed": 0.85,
}
_NAMES: Mapping[str, tuple[tuple[tuple[re.Pattern[str], int], ...], int]] = {
    "pip": (((_NUMERIC, 95), (_DATA, 65), (_TOOLING, 10)), 35),
    "apt": (((_SYSTEM_NUMERIC, 75), (_SYSTEM_DATA, 35)), 12),
    "env": (((_VARIABLE, 70), (_PLACE, 8)), 25),
}
_GROUPS = {"platform": 100, "python": 98, "seeds": 94, "os": 40, "base": 30}
_CUDA = {"version": 97, "cudnn": 95, "gpu": 93, "driver": 80}
_CODE = 60  # other code: likely to matter, and likely to be meant


def weigh(group: str, name: str, jump: str) -> int:
    """Return how likely a difference is to move a result."""
    if group == "python" and jump == "minor":
        jump = "major"  # that is what a new minor version of Python is: other bytecode, other wheels
    return round(_kind(group, name) * _JUMPS[jump])


def _kind(group: str, name: str) -> int:
    if group == "env" and is_secret(name):
        return 5
    if group in _NAMES:
        kinds, default = _NAMES[group]
        return next((weight for names, weight in kinds if names.fullmatch(name)), default)
    if group == "cuda":
        return _CUDA.get(name, 60)
    if group == "labels":
        return _CODE if name.endswith(".revision") or name == PROJECT_LABEL else 4
    return _GROUPS[group]
