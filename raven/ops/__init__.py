"""Logs, metrics, health, and the HTTP endpoints that show them."""
