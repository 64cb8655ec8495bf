"""The kinds of work that a prompt may be."""

TASKS = ("code", "math", "qa", "extract", "summ", "rewrite", "translate", "write", "classify", "chat")
"""What kind of work a prompt is. The order is the order of every vector over tasks."""
