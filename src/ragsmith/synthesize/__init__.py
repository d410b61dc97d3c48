"""Queries for passages: generated from the documents' own structure, and kept only if they find their passage."""
