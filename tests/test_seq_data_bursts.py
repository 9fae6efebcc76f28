"""The data oracle: what it carries from burst to burst."""

from errno import EFAULT, ENOMEM

from page_events import FRESH, dontneed, free, mmap, mprotect, munmap, read, walk, write
from rules import check_bursts

MAP = mmap(1, 2, 0, 1024)
FAR = 1 << 40


def test_state_is_carried_from_burst_to_burst():
    first = [[MAP, write(3, 4, 7, 1, 100), write(3, 4, 600, 2, 101), read(3, 4, 9)],
             {7: (FRESH | 1, 100), 600: (FRESH | 2, 101), 9: (0, 0)}]
    idle = [[], first[1]]
    for ops, invariants in [
        ([read(13, 14, 7, 1, 100), read(13, 14, 600, 2, 101), read(13, 14, 9), read(13, 14, 10)], []),
        ([read(13, 14, 7, 1)], [34]),
        ([read(13, 14, 7, 1, 99)], [34]),
        ([read(13, 14, 7)], [33]),
        ([write(13, 14, 7, 3, 102)], [33]),
        ([dontneed(13, 14, 0, 1024), read(15, 16, 600, 2, 101)], [32]),
        ([dontneed(13, 14, 0, 1024), write(15, 16, 600, 3, 102), read(15, 16, 7)], []),
        ([munmap(13, 14, 0, FAR), read(15, 16, 7, status=-EFAULT)], []),
        ([read(13, 14, 7, status=-EFAULT)], [34]),
        ([dontneed(13, 14, 1000, 1100)], [34]),
        ([dontneed(13, 14, 0, 1024, -ENOMEM)], [34]),
        ([free(13, 14, 0, 1024, -ENOMEM)], [34]),
        ([free(13, 14, 0, 1025)], [34]),
        ([mprotect(13, 14, 1000, 1100, False)], [34]),
        ([mprotect(13, 14, 0, 1024, False), read(15, 16, 7, 1, 100), write(15, 16, 8, status=-EFAULT)], []),
        ([mprotect(13, 14, 0, 1024, False), write(15, 16, 7, 1, 102)], [34]),
        ([walk(13, 14, 0, 1024, [7, 9, 600])], []),
        ([walk(13, 14, 0, 1024, [7, 9])], [46]),
        ([walk(13, 14, 0, 1024, [7, 8, 9, 600])], [46]),
    ]:
        result = check_bursts([first, idle, (ops, None)])
        assert [v["invariant"] for v in result["violations"]] == invariants, ops


def test_permissions_are_carried():
    first = ([MAP, mmap(3, 4, 2048, 4096), mprotect(5, 6, 0, 512, False), mprotect(7, 8, 600, 2000, False, -ENOMEM)], {})
    for ops, invariants in [
        ([write(13, 14, 7, status=-EFAULT), write(13, 14, 513, 1, 100), read(13, 14, 7)], []),
        ([write(13, 14, 7, 1, 100)], [34]),
        ([write(13, 14, 513, status=-EFAULT)], [34]),
        ([write(13, 14, 700, status=-EFAULT), write(13, 14, 701, 1, 100)], []),     # how far it came is not known
        ([read(13, 14, 700, status=-EFAULT)], [34]),
        ([read(13, 14, 1500)], [34]),       # a hole stays one
    ]:
        result = check_bursts([first, (ops, None)])
        assert [v["invariant"] for v in result["violations"]] == invariants, ops


def test_discard_of_pages_nobody_touches_is_carried():
    first = ([MAP, write(3, 4, 7, 1, 100)], {7: (FRESH | 1, 100)})
    gone = ([munmap(13, 14, 0, FAR)], {})
    again = ([mmap(23, 24, 0, 512), read(25, 26, 7)], {7: (0, 0)})
    assert check_bursts([first, gone, again])["violations"] == []
    (found,) = check_bursts([first, (gone[0], first[1])])["violations"]
    assert (found["invariant"], found["page"]) == (32, 7)
    (found,) = check_bursts([first, ([], {}), ([read(23, 24, 7)], None)])["violations"]
    assert found["invariant"] == 33, "an idle burst looks at no page; the next read shows the loss"
