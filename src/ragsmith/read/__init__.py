"""Readers: from a question and retrieved passages to an answer."""
