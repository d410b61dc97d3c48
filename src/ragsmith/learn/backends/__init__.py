"""The field's own trainers on our examples: to compare with, and for who must use them."""
