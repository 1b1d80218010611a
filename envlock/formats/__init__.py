"""Reading and writing formats: pure functions between text or bytes and the nouns of ``envlock.model``."""
