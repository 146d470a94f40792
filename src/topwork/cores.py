"""How many processors there are to use."""

from __future__ import annotations

import os

__all__ = ["CORES"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Cores that this process may run on, >= 1; a container's quota of time does not count."""
