"""The nouns: frozen, keyword-only dataclasses without behaviour that reaches outside."""
