"""Pipelines: sources, steps, rules and the engine that turns a recipe into a version."""
