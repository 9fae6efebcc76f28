"""How much a fuzz campaign and the tests in ``tests/fuzz`` do: the profiles ``dev``, ``ci`` and ``soak``.

``--profile`` or the variable ``HYPOTHESIS_PROFILE`` chooses. Each is also a profile of Hypothesis, under the
name ``ptstress-NAME``: registered, not loaded, so that a project's own profiles stay what they are.
"""

import os
from dataclasses import dataclass

from hypothesis import HealthCheck, settings

from ptstress.errors import UsageError

VARIABLE = "HYPOTHESIS_PROFILE"


@dataclass(frozen=True)
class Profile:
    """``examples``: of Hypothesis, shared out among the workers of a test run. ``schedules``: of each program.

    ``rounds``: on threads, of each program that also races. ``shrink_s``: for one failure.
    """

    name: str
    examples: int
    schedules: int
    rounds: int
    race_every: int
    shrink_s: float
    duration: str


PROFILES = (
    Profile("dev", 60, 100, 5, 32, 8.0, "20s"),
    Profile("ci", 600, 200, 10, 32, 20.0, "2m"),
    Profile("soak", 20000, 400, 20, 16, 60.0, "10m"),
)
DEFAULT = "ci"


def find_profile(name: str | None) -> Profile:
    """The profile of that name; ``None``: the one that the environment names, or the default. Raises ``UsageError``."""
    wanted = name or os.environ.get(VARIABLE) or DEFAULT
    for profile in PROFILES:
        if profile.name == wanted:
            return profile
    where = "--profile" if name else VARIABLE
    raise UsageError(f"{where} {wanted!r}: expected one of {', '.join(p.name for p in PROFILES)}")


def hypothesis_settings(profile: Profile, shares: int = 1) -> settings:
    """For one of so many test processes. An example takes as long as its schedules take: there is no deadline."""
    return settings(
        max_examples=max(1, profile.examples // shares), deadline=None, print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def register_profiles() -> None:
    """Make the profiles known to Hypothesis."""
    for profile in PROFILES:
        settings.register_profile(f"ptstress-{profile.name}", hypothesis_settings(profile))
