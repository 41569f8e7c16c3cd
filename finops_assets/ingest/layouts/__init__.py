"""Delivery layouts: how each provider lays out its exports, one small module each."""
