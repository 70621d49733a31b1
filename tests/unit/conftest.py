"""Settings for tests of random input."""

from __future__ import annotations

import hypothesis

# No test is about time, and the machine may be busy.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")
