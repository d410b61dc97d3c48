"""Measure retrieval and answers, compare systems with their uncertainty, find what lies behind, and report it.

`retrieval`, `answer_recall` and `answers` score one row per query; `significance` puts intervals and p-values on them;
`metrics` and `diagnosis` gather everything for metrics.json; `headline`, `report` and the figures say it to a person.
"""
