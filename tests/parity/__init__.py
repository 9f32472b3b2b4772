"""Tests that our networks compute the numbers recorded from the published systems."""
