"""What happens around a run: checks before it, tracking during it, plan and summary for the reader."""

import tckr.hooks.quiet  # noqa: F401  before the libraries it quietens
from tckr.hooks.checks import Checks
from tckr.hooks.clock import Clock
from tckr.hooks.credentials import Credentials
from tckr.hooks.engine import Engine
from tckr.hooks.lineage import Lineage
from tckr.hooks.private import Private
from tckr.hooks.resume import TakenUp
from tckr.hooks.session import Session
from tckr.hooks.summary import Summary
from tckr.hooks.tracking import Tracking
from tckr.hooks.wiring import Wiring

__all__ = [
    "Checks",
    "Clock",
    "Credentials",
    "Engine",
    "Lineage",
    "Private",
    "Session",
    "Summary",
    "TakenUp",
    "Tracking",
    "Wiring",
]
