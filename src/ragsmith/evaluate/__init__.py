"""Measure retrieval and answers, compare systems with their uncertainty, and report both.

`retrieval` and `answers` score one row per query; `significance` puts intervals and p-values on them; `metrics`
gathers everything for metrics.json; `headline`, `figures` and `report` say it to a person.
"""
