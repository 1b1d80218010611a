"""A tar read once from its beginning to its end, entry by entry."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO

_BLOCK = 1 << 20
_LONGEST_HEADER = 1 << 20  # bytes of a long name, or of a pax header: tarfile reads them whole
_EXTENSIONS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)


class _Entry(tarfile.TarInfo):
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENSIONS and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"an entry has a name or a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return] # the one place where tarfile asks


def entries(source: IO[bytes], *, block: int = _BLOCK) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Yield each entry and, of a regular file, its content, which has to be read before the next entry is asked for.

    ``block`` bytes are read at a time; names that are no UTF-8 have surrogates (PEP 383). Raises ``tarfile.TarError``.
    """
    with tarfile.open(
        fileobj=source, mode="r|", bufsize=block, tarinfo=_Entry, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for entry in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile keeps each entry that it has seen
            yield entry, archive.extractfile(entry) if entry.isreg() else None
