"""Text that others wrote, made fit for a terminal; light enough for an error at start-up."""


def printable(text: str) -> str:
    """The text without what could steer a terminal; line breaks stay."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
