"""Ids of jobs: their letters are equally likely, and none is used twice."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from controlplane.api.job_ids import ALPHABET, DRAWN, ID_LENGTH, LEFT_OVER, LETTER_OF, JobIds


def test_each_letter_stands_for_as_many_bytes_as_any_other() -> None:
    letters = bytes(range(256)).translate(LETTER_OF, LEFT_OVER)
    assert set(Counter(letters).values()) == {256 // len(ALPHABET)}
    assert set(letters) == set(ALPHABET)


def test_ids_take_up_what_was_drawn_in_order_and_draw_again() -> None:
    drawn = list[int]()

    def draw(count: int) -> bytes:
        drawn.append(count)
        return bytes(number % 240 for number in range(count))

    ids = JobIds(draw)
    made = [ids() for _ in range(DRAWN // ID_LENGTH + 1)]
    letters = (bytes(number % 240 for number in range(DRAWN)) * 2).translate(LETTER_OF, LEFT_OVER).decode()
    assert "".join(item.removeprefix("job-") for item in made) == letters[: len(made) * ID_LENGTH]
    assert drawn == [DRAWN, DRAWN]


def test_no_id_is_given_twice_by_many_threads() -> None:
    ids = JobIds()
    with ThreadPoolExecutor(4) as pool:
        made = [item for part in pool.map(lambda _: [ids() for _ in range(500)], range(8)) for item in part]
    assert len(set(made)) == 4000
    assert all(re.fullmatch(r"job-[a-km-np-z2-9]{12}", item) for item in made)
