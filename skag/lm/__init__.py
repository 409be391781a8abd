"""Language models inside the process."""
