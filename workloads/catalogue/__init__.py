"""Data products: what they are, where their replicas lie, who may use them for what, and what they cost."""
