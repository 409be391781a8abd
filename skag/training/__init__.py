"""The loop that trains any method's stage, with one process or several."""
