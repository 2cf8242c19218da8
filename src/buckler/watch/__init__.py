"""Runs jobs on a schedule, records their history, applies the policy and exports metrics to Prometheus.

Each scheduled run is a separate process with the command that an external scheduler would use
(``buckler watch --once JOB``). A run can crash or be killed without affecting other runs, ends with the scheduler, and
frees its memory when it ends. All state is on disk below ``.buckler/watch``. The exporter reads it at each scrape,
so a restart loses nothing and runs started elsewhere are included.

A job is a module ``watch/jobs/NAME.py`` with ``run() -> Finding``, and has an entry in ``watch/table.py``, in
``watch/jobs/__init__.py``, and in ``watch.jobs`` and ``watch.policy`` of params.yaml.
"""

from buckler.watch.exporter import Exporter
from buckler.watch.history import EXIT_CODES, OUTCOMES, History, Outcome, Run
from buckler.watch.jobs import load_job
from buckler.watch.runs import run_once
from buckler.watch.schedule import build_scheduler, serve
from buckler.watch.settings import ACTIONS, Action, JobParams, WatchParams
from buckler.watch.state import note_champion, read_state, write_state
from buckler.watch.table import JOBS, Finding

__all__ = [
    "ACTIONS",
    "EXIT_CODES",
    "JOBS",
    "OUTCOMES",
    "Action",
    "Exporter",
    "Finding",
    "History",
    "JobParams",
    "Outcome",
    "Run",
    "WatchParams",
    "build_scheduler",
    "load_job",
    "note_champion",
    "read_state",
    "run_once",
    "serve",
    "write_state",
]
