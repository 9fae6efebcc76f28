"""The property of the fuzz campaigns under Hypothesis: no oracle objects to any execution of any program.

    pytest -n auto tests/fuzz                              a few seconds
    HYPOTHESIS_PROFILE=soak pytest -n auto tests/fuzz      as long as it takes

Each xdist worker draws its own share of the examples. A failure shrinks, its example stays in Hypothesis's
database, which all workers share, and its last line says how to see the schedule.
"""

from hypothesis import given, seed

from ptstress.fuzz_profiles import hypothesis_settings
from ptstress.fuzz_property import check, examples

from conftest import SHARES

SEED = 6180


def test_no_oracle_objects_to_any_program(share, profile, executor, ran):
    @seed(SEED + share)
    @hypothesis_settings(profile, SHARES)
    @given(example=examples(profile.schedules, profile.rounds))
    def holds(example):
        ran.add(example.digest())
        assert check(executor, example) > 0

    holds()
    assert ran
