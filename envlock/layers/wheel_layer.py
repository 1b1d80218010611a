"""One wheel as entries of a layer: what ``pip install`` leaves of it, in one pass over the wheel.

The entries: the wheel's files by path; the compiled files, each batch of them ``_WINDOW`` batches of sources after its
own (so that compiling goes on beside inflating, and memory stays bounded); what pip adds; RECORD. All of that depends
on the wheel alone.

The ``installer`` library is not used for this: its scripts are not pip's, it knows no bounds, takes names that hide
each other, and its RECORD is not the one that pip leaves.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain

from envlock.layers.archive import Member, WheelArchive
from envlock.layers.compiler import Source
from envlock.layers.record import Row, checkable, dump_record, encoded, hash_of, installed_rows
from envlock.layers.scheme import Installation, Placed, compiled_path, from_site_packages
from envlock.layers.scripts import fixed_first_line
from envlock.layers.tar_writer import TarWriter
from envlock.layers.target import Target

_BATCH_FILES = 64
_BATCH_BYTES = 512 << 10
_WINDOW = 8  # batches; part of the layers' format, as it decides the order of entries
_LONGEST_LINE = 64 << 10  # bytes: a first line beyond that is no shebang

Compile = Callable[[Sequence[Source]], "Future[Sequence[bytes | None]]"]


class _Writing:
    """The state of writing one wheel."""

    def __init__(
        self, archive: WheelArchive, plan: Installation, tar: TarWriter, *, target: Target, compile_: Compile
    ) -> None:
        self._archive = archive
        self._plan = plan
        self._tar = tar
        self._target = target
        self._compile = compile_
        self._expected = {row.path: row for row in plan.rows}
        self._installed = {file.member.name: file.installed for file in plan.placed}
        self._changed: dict[str, Row] = {}
        self._batch: list[Source] = []
        self._batch_bytes = 0
        self._waiting: deque[tuple[list[Source], Future[Sequence[bytes | None]]]] = deque()
        compiled = {compiled_path(file.path, target) for file in plan.placed if file.path.endswith(".py")}
        # Compiled files that the wheel itself brings: they stay only where pip's own do not come out.
        self._brought = {file.path: file for file in plan.placed if file.path in compiled}

    def run(self, advance: Callable[[int], None]) -> None:
        for file in self._plan.placed:
            if file.path not in self._brought:
                self._write(file)
            advance(file.member.packed)
        self._submit()
        while self._waiting:
            self._write_compiled()
        for made in self._plan.generated:
            content = made.content
            self._tar.file(made.path, (content,), size=len(content), executable=made.executable)
        self._write_record()

    def _write(self, file: Placed) -> None:
        if file.path.endswith(".py"):
            content = b"".join(self._content(file)[1])
            self._put(file, len(content), (content,))
            self._add_source(Source(f"/{file.path}", content))
        else:
            self._put(file, *self._content(file))

    def _put(self, file: Placed, size: int, blocks: Iterable[bytes]) -> None:
        self._tar.file(file.path, blocks, size=size, executable=file.member.executable)

    def _content(self, file: Placed) -> tuple[int, Iterable[bytes]]:
        """Return a file's size and content as installed; it is checked against RECORD while it is read."""
        blocks = self._checked(file.member)
        if not file.script:
            return file.member.size, blocks
        return self._fixed_script(file, blocks)

    def _checked(self, member: Member) -> Iterator[bytes]:
        row = self._expected.get(member.name)
        algorithm = checkable(row.hash) if row else None
        if row is None or algorithm is None:
            yield from self._archive.blocks(member)
            return
        digest = hashlib.new(algorithm)
        for block in self._archive.blocks(member):
            digest.update(block)
            yield block
        if encoded(algorithm, digest.digest()) != row.hash.rstrip("="):
            raise self._archive.refused("it is not the file that RECORD lists", member.name)

    def _fixed_script(self, file: Placed, blocks: Iterator[bytes]) -> tuple[int, Iterable[bytes]]:
        """Return a script with its first line as pip leaves it; it gets a new row in RECORD where that changed it."""
        head = b""
        for block in blocks:
            head += block
            if b"\n" in head or len(head) > _LONGEST_LINE:
                break
        line, newline, rest = head.partition(b"\n")
        fixed = fixed_first_line(line + newline, self._target)
        if fixed == line + newline:
            return file.member.size, chain((head,), blocks)
        content = b"".join((fixed, rest, *blocks))
        self._changed[file.installed] = Row(file.installed, hash_of(content), str(len(content)))
        return len(content), (content,)

    def _add_source(self, source: Source) -> None:
        self._batch.append(source)
        self._batch_bytes += len(source.content)
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._submit()
            if len(self._waiting) > _WINDOW:
                self._write_compiled()

    def _submit(self) -> None:
        if self._batch:
            self._waiting.append((self._batch, self._compile(self._batch)))
            self._batch, self._batch_bytes = [], 0

    def _write_compiled(self) -> None:
        sources, future = self._waiting.popleft()
        for source, content in zip(sources, future.result(), strict=True):
            path = compiled_path(source.path, self._target).lstrip("/")
            if content is not None:
                self._tar.file(path, (content,), size=len(content))
                self._installed[f"/{path}"] = from_site_packages(f"/{path}", self._target)
            elif path in self._brought:
                self._put(self._brought[path], *self._content(self._brought[path]))

    def _write_record(self) -> None:
        plan = self._plan
        installed = dict(self._installed)
        if plan.record is not None:
            installed[plan.record.member.name] = plan.record.installed
        generated = [Row(made.installed, hash_of(made.content), str(len(made.content))) for made in plan.generated]
        content = dump_record(installed_rows(plan.rows, installed, changed=self._changed, generated=generated))
        self._tar.file(plan.record_path, (content,), size=len(content))


def write_wheel(
    archive: WheelArchive,
    plan: Installation,
    tar: TarWriter,
    *,
    target: Target,
    compile_: Compile,
    advance: Callable[[int], None],
) -> None:
    """Write what installing a wheel leaves.

    ``advance`` is told how many bytes of the wheel are done. Raises ``InputError`` that names the wheel and its member
    for a member that is damaged or not what RECORD says, and what ``compile_`` raises.
    """
    _Writing(archive, plan, tar, target=target, compile_=compile_).run(advance)
