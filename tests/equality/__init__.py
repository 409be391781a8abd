"""What fixed seeds come to, recorded once: a change of structure must leave it as it is, bit for bit."""
