"""Tables that are measured on the world."""
