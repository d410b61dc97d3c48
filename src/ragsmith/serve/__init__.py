"""Serving: one bundle that is what was evaluated, and the engine that searches and answers from it."""
