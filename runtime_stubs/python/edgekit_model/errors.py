"""What goes wrong, for whoever calls: the model itself, or too many calls at a time."""


class ModelError(Exception):
    """The artifact, its runtime or an input will not do; the message says what and why."""


class QueueFull(ModelError):
    """The model is asked more often than it can answer."""

    def __init__(self, capacity: int) -> None:
        super().__init__(f"{capacity} calls wait already: try again later")
