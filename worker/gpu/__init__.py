"""What a gpu worker does: one job from claim to publish, and what its devices say."""
