import itertools

from podcam.recorder.write_budget import WriteBudget

SECOND = 1_000_000_000
MB = 1_000_000


def test_below_the_budget_nothing_is_cut() -> None:
    budget = WriteBudget(20 * MB)
    assert budget.measured({"a": 19 * MB}, 1.0, 0) == (set(), set())


def test_the_loudest_point_is_cut_and_the_quiet_ones_keep_all() -> None:
    budget = WriteBudget(20 * MB)
    assert budget.measured({"a": 30 * MB, "b": 5 * MB, "c": 6 * MB}, 1.0, 0) == ({"a"}, set())


def test_as_many_are_cut_as_it_takes() -> None:
    budget = WriteBudget(20 * MB)
    assert budget.measured({"a": 30 * MB, "b": 25 * MB, "c": 6 * MB}, 1.0, 0) == ({"a", "b"}, set())


def test_rates_count_the_length_of_the_stretch() -> None:
    budget = WriteBudget(20 * MB)
    assert budget.measured({"a": 30 * MB}, 2.0, 0) == (set(), set())
    assert budget.measured({"a": 30 * MB}, 0.5, 0) == ({"a"}, set())


def test_a_cut_point_is_restored_after_ten_calm_seconds() -> None:
    budget = WriteBudget(20 * MB)
    budget.measured({"a": 30 * MB}, 1.0, 0)
    for second in range(1, 11):
        assert budget.measured({"a": 5 * MB}, 1.0, second * SECOND) == (set(), set())
    assert budget.measured({"a": 5 * MB}, 1.0, 11 * SECOND) == (set(), {"a"})
    assert budget.cut == set()


def test_half_calm_is_not_calm() -> None:
    budget = WriteBudget(20 * MB)
    budget.measured({"a": 30 * MB}, 1.0, 0)
    for second in range(1, 60):
        assert budget.measured({"a": 15 * MB}, 1.0, second * SECOND) == (set(), set())


def test_steady_overload_is_cut_for_longer_each_time() -> None:
    budget = WriteBudget(20 * MB)
    restored: list[int] = []
    for second in range(200):
        rate = 5 * MB if budget.cut else 30 * MB
        _cut, back = budget.measured({"a": rate}, 1.0, second * SECOND)
        if back:
            restored.append(second)
    assert len(restored) > 2
    pauses = [later - earlier for earlier, later in itertools.pairwise(restored)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2 * pauses[0]
