"""The programs that decide which versions go together."""
