"""How long to wait before the next attempt: full jitter under a ceiling that grows with the outage."""

from __future__ import annotations

from random import Random

__all__ = ["draw_pause_s"]


def draw_pause_s(outage_s: float, base_s: float, cap_s: float, random: Random) -> float:
    """A pause in seconds, anywhere between 0 and a ceiling: `base_s` and as long as the outage has lasted, at most `cap_s`.

    Without jitter that doubles from attempt to attempt. It goes by time and not by attempts, because some short draws in a row
    would bring the ceiling to its cap within a second or two, and a venue that was away as long would be waited for as after a
    long outage. The whole range is drawn from, so that many feeds that lost one venue do not come back in step.

    Args:
        outage_s: since data last came for long enough, or since the first failure.
    """
    return random.uniform(0.0, min(base_s + outage_s, cap_s))
