"""Published methods by name; a folder each."""
