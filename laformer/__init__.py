"""LAformer: image restoration with rank-enhanced linear attention, and its training."""
