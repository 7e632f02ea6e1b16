"""How many inputs the property tests of a module generate together.

2,000 by default; GRACE_EXAMPLES=100000 for a long run. Each property takes its share.
"""

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("GRACE_EXAMPLES", "2000"))


def generated(share: float) -> settings:
    return settings(
        max_examples=max(1, int(EXAMPLES * share)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
