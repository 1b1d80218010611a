"""What conda calls the packages of the Python package index, and which of its packages have nothing to do with Python.

Curated, as on the index anyone can own any name. Names that are not here are carried over only where conda's own build
says that they are Python packages, and the user is told to check them.
"""

from __future__ import annotations

import re

# conda's name → the index's, where they differ
RENAMED = {
    "brotli-python": "brotli",
    "dask-core": "dask",
    "faiss": "faiss-cpu",
    "importlib_metadata": "importlib-metadata",
    "keras-base": "keras",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python-headless",
    "optuna-base": "optuna",
    "py-lightgbm": "lightgbm",
    "py-opencv": "opencv-python-headless",
    "py-xgboost": "xgboost",
    "pyarrow-core": "pyarrow",
    "pyqt": "pyqt5",
    "pytables": "tables",
    "python-graphviz": "graphviz",
    "python-tzdata": "tzdata",
    "python-xxhash": "xxhash",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "ray-core": "ray",
    "ray-default": "ray",
    "seaborn-base": "seaborn",
    "sentencepiece-python": "sentencepiece",
    "tensorflow-base": "tensorflow",
    "tensorflow-cpu": "tensorflow",
    "tensorflow-gpu": "tensorflow",
    "torchvision-cpu": "torchvision",
}

# the same on both sides
_SAME = """
    absl-py accelerate aiohttp albumentations alembic altair anndata appdirs arrow arviz astropy asttokens attrs av
    azure-storage-blob babel beautifulsoup4 biopython bitsandbytes black bokeh boto3 botocore captum catboost
    certifi cffi charset-normalizer chex click cloudpickle colorama coloredlogs comet-ml contourpy cryptography cupy
    cycler cython dash dask dataclasses-json datasets debugpy decorator deepspeed dgl diffusers dill dm-tree docker
    duckdb einops evaluate fairscale faiss-cpu faiss-gpu fastai fastapi fastparquet filelock fire flake8 flask flax
    fonttools fsspec ftfy future gensim geopandas gitpython google-auth gradio graphene greenlet grpcio gspread gym
    gymnasium h5py holoviews httpx huggingface-hub hydra-core hyperopt hypothesis idna imageio imbalanced-learn
    imgaug ipykernel ipython ipywidgets isort jax jaxlib jinja2 joblib jsonlines jsonschema jupyter jupyterlab keras
    kornia langchain librosa lightgbm lightning llvmlite loguru lxml mako markdown markupsafe matplotlib mlflow
    mlflow-skinny monai mpi4py msgpack multidict multiprocess mypy natsort nbconvert nbformat networkx nltk notebook
    numba numexpr numpy omegaconf onnx onnxruntime openai openpyxl optax optuna orjson packaging pandas
    pandas-profiling papermill patsy peft pillow plotly polars pooch portalocker pre-commit prettytable
    prometheus-client protobuf psutil pyarrow pycocotools pydantic pydicom pydot pygments pymongo pyparsing pyspark
    pytest pytest-cov python-dateutil python-dotenv pytorch-lightning pytorch-metric-learning pytz pywavelets pyyaml
    pyzmq rasterio ray regex requests rich rouge-score ruff sacrebleu sacremoses safetensors scanpy scikit-image
    scikit-learn scikit-optimize scipy seaborn sentence-transformers sentencepiece sentry-sdk seqeval setproctitle
    setuptools shap shapely simpleitk six sklearn-pandas soundfile spacy sqlalchemy statsmodels sympy tabulate
    tenacity tensorboard tensorboardx tensorflow tensorflow-datasets termcolor threadpoolctl tifffile tiktoken timm
    tokenizers toml tomli torch torchaudio torchdata torchmetrics torchtext torchvision tornado tqdm traitlets
    transformers triton trl typer typing-extensions tzdata ujson umap-learn urllib3 uvicorn wandb webdataset
    werkzeug wheel wordcloud xarray xgboost xlrd xlsxwriter xxhash yacs yarl zarr zstandard
"""
SAME = frozenset(_SAME.split())

# which CUDA an environment has
CUDA = frozenset({"cudatoolkit", "cuda-version", "pytorch-cuda", "cuda-toolkit", "cuda-runtime", "cuda"})

# conda's own tools, and what the image has of its own
QUIET = frozenset({"pip", "python", "python_abi", "conda", "mamba", "nomkl", "pytorch-mutex", "cpuonly"})

# a build made for one Python (py310h5e1), for any (pyhd8ed1ab_0, py_0), or installed by pip (pypi_0)
_PYTHON_BUILD = re.compile(
    r"(?:.*_)?py(?:[23][0-9]*|hd[0-9a-z]*|h[0-9a-f]{4,})?(?:[_h].*)?|pypi_[0-9]+|.*_py[23][0-9]+.*"
)


def from_index(build: str) -> bool:
    """Return whether a package was installed by pip, from the index."""
    return re.fullmatch(r"pypi_[0-9]+", build) is not None


def is_python_build(build: str) -> bool:
    """Return whether a conda build string says that the package is a Python package."""
    return _PYTHON_BUILD.fullmatch(build) is not None
