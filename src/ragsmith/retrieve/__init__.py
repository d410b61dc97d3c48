"""Encoding passages and finding them again: models, encoder, dense and sparse index, fusion, hard negatives."""
