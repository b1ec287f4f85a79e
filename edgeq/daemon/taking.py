"""A settled candidate -> the deployer; once more later where the box was at fault, not the drop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import Context
from edgeq.intake.watch import Candidate

T = TypeVar("T")
OnDeployThread = Callable[[Callable[[], T]], T]


class Taking:
    """Takes candidates, and has those tried again that the box refused.

    Args:
        context: with the names to try again.
        deployer: admits on this thread, deploys on its own.
        on_deploy_thread: runs a function there, and returns what it returned.
        report_again: lets the scanner report a name's drop once more; on any thread.
    """

    def __init__(
        self,
        context: Context,
        deployer: Deployer,
        on_deploy_thread: OnDeployThread[bool],
        report_again: Callable[[str], None],
    ) -> None:
        self._context = context
        self._deployer = deployer
        self._on_deploy_thread = on_deploy_thread
        self._report_again = report_again

    def take(self, candidate: Candidate) -> None:
        """Admit a candidate, a minute at most, and deploy it; on the intake thread."""
        again, name = self._context.drops_again, candidate.name
        try:
            received = self._deployer.admit(candidate)
            is_done = self._on_deploy_thread(lambda: self._deployer.deploy(candidate, received))
        except Exception as error:
            if self._context.faults.note_error(error, "a drop waits", model=name) is None:
                raise
            is_done = False
        if is_done:
            again.forget(name)
        else:
            again.postpone(name)

    def look(self) -> None:
        """Have those reported again whose time has come, and build what waits; every second."""
        for name in self._context.drops_again.take_due():
            self._report_again(name)
        for name in self._context.builds_again.take_due():
            deployment = self._deployer.deployments.get(name)
            if deployment is not None:
                self._deployer.consider_build(deployment, "samples")
