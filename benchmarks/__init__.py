"""Measurements that the README quotes, and how they are made."""
