"""The pages of a bucket's listing, by several requests at once.

An object store answers one question: which keys come after this one, a page at a time and in the
order of their code points. One request after the other takes minutes for millions of keys. So what
is left after a full page is cut at points that need not be keys, and the parts are listed side by
side. Any point is a correct one, whatever the names; a bad guess costs one request, and there are
at most as many guesses as idle threads for each full page.
"""

import bisect
import itertools
import operator
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final

NUM_REQUESTS = 8
"""Requests under way; the client below keeps ten connections."""

PAGE_KEYS = 1000
"""Keys of a page; no store gives more."""

ALPHABET: Final = "".join(
    chr(point)
    for codes in (
        range(0x20, 0x7F),
        # Sparse where scripts have thousands of letters; no surrogates, which UTF-8 cannot hold.
        range(0xA0, 0xD800, 64),
        range(0xE000, 0xFFF0, 64),
        range(0x10000, 0x110000, 4096),
    )
    for point in codes
)
"""What the points are made of, in order."""


class UnorderedError(Exception):
    """A store that answers out of order, or with keys that were not asked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing."""

    key: str
    """Path below the listed root, with forward slashes."""
    num_bytes: int
    """Size."""
    etag: str
    """Changes when the content does: the store's own, else made of size and mtime in ns."""


@dataclass(frozen=True)
class Page:
    """One answer of the store."""

    entries: list[Entry]
    """In the order of their keys."""
    more: bool
    """Whether there are keys after the last one."""


Ask = Callable[[dict[str, Any]], dict[str, Any]]
"""Request of ListObjectsV2 -> its answer, in botocore's words."""


@dataclass(frozen=True)
class Bucket:
    """The objects below a prefix of an S3 bucket."""

    ask: Ask
    """Sends a request, again where that helps."""
    name: str
    """Of the bucket."""
    prefix: str
    """Ends in a slash, or is empty."""

    def at_once(self) -> Iterator[Page]:
        """Yield all pages in any order. Raises UnorderedError where only `in_turn` works."""
        return walk(self._after)

    def in_turn(self) -> Iterator[Page]:
        """Yield all pages one after the other, as every store can."""
        start: dict[str, Any] = {}
        while True:
            answer = self._ask(start)
            yield self._page(answer)
            if not answer.get("IsTruncated"):
                return
            start = {"ContinuationToken": answer["NextContinuationToken"]}

    def first(self) -> Page:
        """Return the first object alone."""
        return self._page(self._ask({"MaxKeys": 1}))

    def _after(self, key: str | None) -> Page:
        return self._page(self._ask({} if key is None else {"StartAfter": self.prefix + key}))

    def _ask(self, start: dict[str, Any]) -> dict[str, Any]:
        request = {"Bucket": self.name, "Prefix": self.prefix, "MaxKeys": PAGE_KEYS}
        return self.ask(request | start)

    def _page(self, answer: dict[str, Any]) -> Page:
        entries = [
            Entry(item["Key"].removeprefix(self.prefix), item["Size"], item["ETag"].strip('"'))
            for item in answer.get("Contents", [])
        ]
        return Page(entries, more=bool(answer.get("IsTruncated")))


@dataclass(frozen=True)
class _Range:
    after: str | None
    """The first key comes after this one; None is the start."""
    last: str | None
    """The last key comes before this or is this; None is no end."""


def walk(fetch: Callable[[str | None], Page]) -> Iterator[Page]:
    """Yield pages that together hold every entry once, in any order.

    `fetch` returns the page after a key, or the first one after None; several threads call it.
    Raises UnorderedError when the store does not keep to that.
    """
    with ThreadPoolExecutor(NUM_REQUESTS) as pool:
        running: dict[Future[Page], _Range] = {pool.submit(fetch, None): _Range(None, None)}
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                part, page = running.pop(future), future.result()
                last = _last_key(part, page)
                yield _until(part.last, page)
                if page.more and (part.last is None or last < part.last):
                    for piece in _pieces(last, part.last, NUM_REQUESTS - len(running)):
                        running[pool.submit(fetch, piece.after)] = piece


def between(low: str, high: str | None, most: int) -> list[str]:
    """Return up to `most` strings in order, all after `low` and before `high`.

    >>> between("img_1", "img_5", 3)
    ['img_2', 'img_3', 'img_4']
    """
    ahead = zip(low, high or "", strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ahead))
    start = bisect.bisect_right(ALPHABET, low[shared]) if len(low) > shared else 0
    end = len(ALPHABET) if high is None else bisect.bisect_left(ALPHABET, high[shared])
    if start < end:
        num = min(most, end - start)
        steps = ((i + 1) * (end - start) // (num + 1) for i in range(num))
        return [low[:shared] + ALPHABET[start + step] for step in steps]
    if len(low) == shared:
        return []
    head, tail = low[: shared + 1], low[shared + 1 :]
    return [head + point for point in between(tail, None, most)]


def _last_key(part: _Range, page: Page) -> str:
    keys = [entry.key for entry in page.entries]
    ordered = keys if part.after is None else [part.after, *keys]
    if not all(itertools.starmap(operator.lt, itertools.pairwise(ordered))):
        raise UnorderedError
    if page.more and not keys:
        raise UnorderedError  # there is no key to go on from
    return keys[-1] if keys else ""


def _until(last: str | None, page: Page) -> Page:
    if last is None or not page.entries or page.entries[-1].key <= last:
        return page
    return Page([entry for entry in page.entries if entry.key <= last], page.more)


def _pieces(after: str, last: str | None, most: int) -> list[_Range]:
    ends: list[Any] = [after, *between(after, last, most - 1), last]
    return [_Range(*pair) for pair in itertools.pairwise(ends)]
