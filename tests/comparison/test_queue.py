"""The queue of work for groups of ranks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from rcdp_hpc.comparison.queue import PREFIX, Queue, meet
from rcdp_hpc.runtime.comm.single import SingleProcess


def test_each_piece_of_work_is_taken_once_and_in_order(tmp_path):
    queue, names = Queue(tmp_path, SingleProcess(), SingleProcess()), [f"{number}" for number in range(100)]
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda _: list(queue.take(names)), range(4)))
    assert sorted((name for part in taken for name in part), key=int) == names
    assert all(part == sorted(part, key=int) for part in taken)
    queue.close()
    assert not list(tmp_path.iterdir())


def test_the_queue_of_a_killed_job_is_removed(tmp_path):
    (tmp_path / f"{PREFIX}old" / "cell").mkdir(parents=True)
    queue = Queue(tmp_path, SingleProcess(), SingleProcess())
    assert list(queue.take(["cell"])) == ["cell"]
    assert len(list(tmp_path.iterdir())) == 1


def test_ranks_that_cannot_send_messages_wait_for_the_last_one(tmp_path):
    ended = []

    def rank(number: int) -> None:
        meet(tmp_path, "ended", number, 3)
        ended.append(number)

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(3)]
    for thread in threads[:2]:
        thread.start()
    time.sleep(0.3)
    assert ended == []
    threads[2].start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == [0, 1, 2]
