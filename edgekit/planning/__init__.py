"""From a model's summary, a device's profile and a goal to an explained plan; pure."""

from edgekit.planning.planner import Choice, plan
from edgekit.planning.recipes import MAKES

__all__ = ["MAKES", "Choice", "plan"]
