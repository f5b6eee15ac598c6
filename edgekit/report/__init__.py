"""Results for people and for programs; formatting only."""
