"""Orders for the actors' tests."""

from iac.domain.records import Phase
from iac.domain.work import RunTask


def order(fence: int, *, task_id: int = 1, action: Phase = "plan") -> RunTask:
    return RunTask(
        task_id=task_id, workspace_id="ws-1", action=action, assignment_id=f"asg-{fence}", fence=fence, attempt=1
    )
