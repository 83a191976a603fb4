"""What a statement may disclose of products whose owners limit that: hidden and masked columns, answers about groups only."""
