"""Building with the engine, and what a build leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from envlock.adapters.engine import DockerEngine
from envlock.errors import BuildFailed
from tests.support.engines import BASE, Docker, containers_with, context, images_with, mark

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    engine = DockerEngine(os.environ)
    yield engine
    engine.close()


@pytest.fixture
def word(docker: Docker, engine: DockerEngine) -> Iterator[str]:
    """Give a mark, and clear away what was built with it."""
    word = mark()
    yield word
    for image in images_with(docker, word):
        subprocess.run(["docker", "rmi", "--force", image], check=False, capture_output=True)


def build(engine: DockerEngine, dockerfile: str, lines: list[str] | None = None, **files: bytes) -> str:
    on_line = (lambda _: None) if lines is None else lines.append
    return engine.build(context(dockerfile, **files), platform="linux/amd64", on_line=on_line)


def test_image_is_built_without_network_and_without_a_name(engine: DockerEngine, word: str) -> None:
    lines: list[str] = []
    dockerfile = f"""\
FROM {BASE}
LABEL word={word}
COPY data /data
RUN ls /sys/class/net > /interfaces; echo said {word}
ENV A=b
"""
    image = engine.find(build(engine, dockerfile, lines, data=b"content"))
    assert image is not None
    assert (image.tags, image.labels["word"], image.env["A"]) == ((), word, "b")
    assert f"said {word}" in lines
    with engine.container(image.id) as container:
        assert container.read("/data") == b"content"
        assert container.read("/interfaces") == b"lo\n"


def test_same_build_again_comes_from_the_cache(engine: DockerEngine, word: str) -> None:
    dockerfile = f"FROM {BASE} AS one\nRUN echo {word} > /x\nFROM {BASE}\nCOPY --from=one /x /x\nRUN echo {word}\n"
    first = build(engine, dockerfile)
    lines: list[str] = []
    assert build(engine, dockerfile, lines) == first
    assert lines.count(" ---> Using cache") == 3


def test_failing_step_is_shown_with_its_own_output(engine: DockerEngine, word: str, docker: Docker) -> None:
    dockerfile = f"""\
FROM {BASE} AS one
RUN echo {word} one
FROM {BASE}
COPY --from=one /etc/passwd /x
RUN echo early {word}
RUN echo ordinary && echo "{word} went wrong" >&2 && exit 9
"""
    with pytest.raises(BuildFailed) as caught:
        build(engine, dockerfile)
    assert "step 6/6, RUN echo ordinary" in caught.value.message
    assert "exit code 9" in caught.value.message
    assert sorted(caught.value.details) == sorted(["ordinary", f"{word} went wrong"])  # and nothing of other steps
    assert images_with(docker, word) == []
    assert containers_with(docker, word) == []


def test_failure_leaves_what_was_there_before(engine: DockerEngine, word: str, docker: Docker) -> None:
    start = f"FROM {BASE}\nRUN echo {word}\n"
    kept = build(engine, start)
    with pytest.raises(BuildFailed):
        build(engine, f"{start}RUN echo {word} 2\nRUN false\n")
    assert images_with(docker, word) == [kept]
    lines: list[str] = []
    assert build(engine, start, lines) == kept
    assert " ---> Using cache" in lines


def test_failure_leaves_what_another_build_came_to_use(engine: DockerEngine, word: str, docker: Docker) -> None:
    """The slow build's first step serves a second build meanwhile; the first one fails then."""
    failed = threading.Event()

    def fail() -> None:
        with pytest.raises(BuildFailed):
            build(engine, f"FROM {BASE}\nRUN echo {word}\nRUN sleep 4; exit 1\n")
        failed.set()

    slow = threading.Thread(target=fail)
    slow.start()
    deadline = time.monotonic() + 20
    while not images_with(docker, word) and time.monotonic() < deadline:
        time.sleep(0.1)
    other = build(engine, f"FROM {BASE}\nRUN echo {word}\nRUN echo {word} other\n")
    slow.join()
    assert failed.is_set()
    with engine.container(other) as container:
        assert container.run(["true"]).exit_code == 0


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FRM x\n", "cannot read the Dockerfile"),
        (f"FROM {BASE}\nCOPY nothing /x\n", "step 2/2, COPY nothing"),
        (f'FROM {BASE}\nUSER 0\nRUN ["/no/such"]\n', "step 3/3"),
    ],
)
def test_dockerfile_that_cannot_be(engine: DockerEngine, dockerfile: str, message: str) -> None:
    with pytest.raises(BuildFailed, match=message):
        build(engine, dockerfile)


@pytest.mark.parametrize("step", ["sleep 60", "dd if=/dev/zero of=/big bs=1M count=300"], ids=["waiting", "writing"])
def test_interrupted_build_leaves_nothing(word: str, docker: Docker, step: str) -> None:
    code = f"""
import os
from envlock.adapters.engine import DockerEngine
from tests.support.engines import context
text = "FROM {BASE}\\nRUN echo {word} 1\\nRUN echo {word} 2; {step}\\nRUN sleep 60\\n"
def told(line):
    print(line, flush=True)
DockerEngine(os.environ).build(context(text), platform="linux/amd64", on_line=told)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        for line in process.stdout:
            if line.strip() == f"{word} 2":
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
        assert "KeyboardInterrupt" in complaint
        assert time.monotonic() - began < 20
    finally:
        process.kill()
        process.communicate()
    time.sleep(1)  # for what the engine may still be about to do
    assert containers_with(docker, word) == []
    assert images_with(docker, word) == []


def test_removing_a_built_image_removes_what_its_build_made(engine: DockerEngine, word: str, docker: Docker) -> None:
    """As where an image turns out to be wrong: its other stages are not left dangling."""
    image = build(
        engine, f"FROM {BASE} AS one\nRUN echo {word} > /x\nFROM {BASE}\nCOPY --from=one /x /x\nRUN echo {word}\n"
    )
    engine.remove(image)
    assert engine.find(image) is None
    assert images_with(docker, word) == []


def test_credentials_of_the_user_do_not_go_into_a_build(
    engine: DockerEngine, word: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a credential helper asked, which may be missing: a build pulls nothing."""
    (tmp_path / "config.json").write_text(
        '{"credsStore": "there-is-none", "proxies": {"default": {"httpProxy": "http://u:p@h"}}}'
    )
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    lines: list[str] = []
    own = DockerEngine({**os.environ, "DOCKER_CONFIG": str(tmp_path)})
    try:
        build(own, f"FROM {BASE}\nRUN echo {word}; env\n", lines)
    finally:
        own.close()
    assert not any("http_proxy" in line.lower() for line in lines)
