"""The scheduler: APScheduler's, which a wrong clock or a busy database does not stop."""

import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from buckler.errors import DatabaseError
from buckler.state.database import Database
from buckler.watch import due_times

CHECK_SECONDS = 20.0  # between two checks of the due times: the clock may be set at any moment
RETRY_SECONDS = 5.0  # after the database could not be used

log = logging.getLogger(__name__)


class Scheduler(BackgroundScheduler):  # type: ignore[misc]  # APScheduler has no types
    """Runs jobs in threads of its own and stores their due times in ``database``."""

    def __init__(self, database: Database, **options: Any) -> None:
        self._database = database
        super().__init__(**options)

    def run_now(self, name: str) -> None:
        """Make the job ``name`` due at once.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with self._database.explained():
            self.modify_job(name, next_run_time=datetime.now(UTC))

    def put_due_times_right(self) -> None:
        """Give each job whose due time a wrong clock has left another one, and warn.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with self._database.explained():
            self._put_due_times_right()

    def _put_due_times_right(self) -> None:
        now = datetime.now(UTC)
        for job in self.get_jobs():
            due = job.next_run_time
            right = due and due_times.put_right(due, job.trigger, grace_seconds=job.misfire_grace_time or 1, now=now)
            if due == right:
                continue
            if right < due:
                log.warning(
                    "%s was due at %s, which its schedule cannot have led to: the clock was ahead; it is now due at %s",
                    job.id,
                    due,
                    right,
                )
            else:
                log.warning("%s was due at %s, too long ago to run it now; it is now due at %s", job.id, due, right)
            with suppress(JobLookupError):  # the scheduler is being shut down and no longer knows its jobs
                self.modify_job(job.id, next_run_time=right)

    def _process_jobs(self) -> Any:
        """Start the jobs that are due and return the seconds until the next look; APScheduler calls this.

        Without the handler, one locked database would end APScheduler's thread, and with it all jobs, in silence.
        """
        try:
            with self._database.explained():
                self._put_due_times_right()
                seconds = super()._process_jobs()
        except DatabaseError as error:
            log.warning("no job can start, trying again in %g s: %s", RETRY_SECONDS, error)
            return RETRY_SECONDS
        return CHECK_SECONDS if seconds is None else min(seconds, CHECK_SECONDS)
