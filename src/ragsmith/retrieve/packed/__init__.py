"""Transformers computed on packed sequences: one row per token, no row for padding."""

from ragsmith.retrieve.packed.backbone import Backbone, packed_backbone, position_limit
from ragsmith.retrieve.packed.layout import Layout

__all__ = ["Backbone", "Layout", "packed_backbone", "position_limit"]
