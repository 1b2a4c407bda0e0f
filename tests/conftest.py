"""What every test shares."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Coroutines as tests; PostgreSQL for them.
pytest_plugins = ["aio", "postgres"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it puts into the background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# derandomize is said out loud: hypothesis turns it on by itself where it finds CI, and would then try
# the same examples for ever. Nothing here is judged by wall time, hence no deadline.
settings.register_profile("ci", deadline=None, derandomize=False, print_blob=True)
settings.register_profile("soak", settings.get_profile("ci"), max_examples=2_000, stateful_step_count=100)
settings.load_profile("soak" if os.environ.get("EVRT_SOAK") == "1" else "ci")
