"""From a model's summary, a device's profile and a goal to an explained plan; pure."""

from edgekit.planning.explanation import explain
from edgekit.planning.planner import plan
from edgekit.planning.question import Choice
from edgekit.planning.recipes import MAKES

__all__ = ["MAKES", "Choice", "explain", "plan"]
