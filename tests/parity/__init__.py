"""Numbers recorded from the published systems, and our networks held against them."""
